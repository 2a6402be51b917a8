package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStatusInWords(t *testing.T) {
	began := time.Now().Add(-1500 * time.Millisecond)
	running := report.Outcome{Number: 3, Result: report.Running, Phase: report.Takeover, Began: began}
	s := report.Status{
		State: "upgrading", Generation: 2, PID: 7, Build: "1.0", Started: began.Add(-time.Hour),
		Phase: report.Takeover, Queued: true, Upgrade: &running,
		Last:        &report.Outcome{Number: 2, Result: report.Failed, Phase: report.Start, Reason: "exit status 3", From: 7},
		Connections: &report.Connections{Open: 9, Silent: 4, Hijacked: 2, Requests: 3},
		Predecessor: &report.Predecessor{PID: 5, Connections: &report.Connections{Open: 1, Requests: 1}},
	}
	var out bytes.Buffer
	require.NoError(t, show(&out, s))
	for _, want := range []string{
		"upgrading, generation 2, pid 7, build 1.0, since ", "(1h0m1s)\n", // or 2 s
		"connections: 9, with 3 requests; 4 wait for the client, 2 hijacked\n",
		"upgrade 3 runs: phase takeover, since 1.5",
		"an upgrade is queued\n",
		"the previous generation drains: pid 5, 1 connections left with 1 requests\n",
		"last: upgrade 2 failed (phase start): exit status 3; pid 7 goes on serving\n",
	} {
		require.Contains(t, strings.ReplaceAll(out.String(), "1h0m2s", "1h0m1s"), want)
	}
	require.Error(t, show(broken{}, s))
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestEventsInWords(t *testing.T) {
	s := report.Status{State: "serving", Generation: 2, PID: 7, Queued: true, Predecessor: &report.Predecessor{PID: 5}}
	o := report.Outcome{Number: 2, Result: report.Failed, Phase: report.Start, Reason: "exit status 3", From: 7}
	require.Equal(t, "generation 2, pid 7: serving, an upgrade is queued, pid 5 drains", line(report.Event{Kind: report.Changed, Status: s}))
	require.Equal(t, "generation 2, pid 7: serving; upgrade 2 failed (phase start): exit status 3; pid 7 goes on serving",
		line(report.Event{Kind: report.Ended, Status: report.Status{State: "serving", Generation: 2, PID: 7}, Outcome: &o}))
	o.Connections = &handoff.Account{Open: 3, Moved: 2, Closed: 1}
	require.Equal(t, "generation 2, pid 7: upgrading, phase start; connections 3: 2 moved, 1 closed, 0 silent, 0 dropped",
		line(report.Event{Kind: report.Completed, Status: report.Status{State: "upgrading", Phase: report.Start, Generation: 2, PID: 7}, Outcome: &o}))
}

func TestAFailureInWords(t *testing.T) {
	err := &FailedError{report.Outcome{Phase: report.Start, Reason: "exit status 3", From: 7}}
	require.Equal(t, "the upgrade failed (phase start): exit status 3; pid 7 goes on serving", err.Error())
	err.Outcome.Stderr = []string{"one", "two"}
	require.True(t, strings.HasSuffix(err.Error(), "\nthe last lines that the new process wrote:\n  one\n  two"))
}

func TestWhyThereIsNoOutcome(t *testing.T) {
	u := &Upgrade{}
	u.PIDFile = t.TempDir() + "/app.pid"
	asked := report.Status{PID: 7, Last: &report.Outcome{Number: 1, Began: time.Unix(1, 0)}}
	ctx := t.Context()
	require.EqualError(t, u.explain(ctx, io.EOF, asked), "pid 7, which was asked, has gone without an answer (EOF); its reports have nothing newer: see its log")
	require.EqualError(t, u.explain(ctx, &control.Error{Code: "stopping", Message: "no upgrade any more"}, asked), "no upgrade to tell of: no upgrade any more")

	s, err := report.Open(u.ReportsFile())
	require.NoError(t, err)
	require.NoError(t, s.Put(report.Outcome{Number: 1, Result: report.Failed, Began: time.Unix(1, 0)}))
	require.ErrorContains(t, u.explain(ctx, io.EOF, asked), "nothing newer")
	require.NoError(t, s.Put(report.Outcome{Number: 2, Result: report.Failed, Phase: report.Commit, Reason: "it died", From: 7, Began: time.Unix(2, 0)}))
	require.ErrorContains(t, u.explain(ctx, io.EOF, asked), "the last word in its reports: upgrade 2 failed (phase commit): it died")
	require.True(t, errors.Is(u.explain(ctx, io.EOF, asked), io.EOF))
}
