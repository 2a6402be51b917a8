package control

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a service whose upgrades end as the test says.
type fake struct {
	feed    Feed
	history report.History
	asked   chan Request
	answer  chan Answer
	changes chan LevelChange
	level   LogLevel
	state   string // default serving

	mu      sync.Mutex // guards what follows
	view    report.View
	views   int // that were asked for
	reports []report.Outcome
}

func newFake() *fake {
	return &fake{asked: make(chan Request, 16), answer: make(chan Answer, 16), changes: make(chan LevelChange, 16)}
}

func (f *fake) Status() report.Status {
	return report.Status{PID: 7, Generation: 3, State: cmp.Or(f.state, "serving")}
}
func (f *fake) Events() *Feed            { return &f.feed }
func (f *fake) History() *report.History { return &f.history }

func (f *fake) Reports() []report.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reports
}

func (f *fake) View() report.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.views++
	v := f.view
	v.Time = time.Now()
	return v
}

func (f *fake) Upgrade(q Request) <-chan Answer {
	f.asked <- q
	return f.answer
}

// serve serves a fake as package upgrade does.
func serve(t *testing.T, network, token string) (*fake, *Server, *Client, handoff.Address) {
	t.Helper()
	f := newFake()
	s := NewServer(f, token)
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	require.NoError(t, err)
	srv := &http.Server{Handler: s, ConnContext: ConnContext, ReadHeaderTimeout: time.Minute}
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() { _ = srv.Close(); done.Wait() })
	a := handoff.Address{Network: network, Addr: ln.Addr().String()}
	return f, s, NewClient(a, token), a
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// raw sends one request and returns the answer.
func raw(t *testing.T, a handoff.Address, text string) (status int, body string) {
	t.Helper()
	c, err := net.Dial(a.Network, a.Addr)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, text)
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestAnswers(t *testing.T) {
	f, s, c, a := serve(t, "unix", "")
	ctx := bounded(t)
	st, err := c.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, f.Status(), st)
	list, err := c.Reports(ctx)
	require.NoError(t, err)
	require.Empty(t, list)
	_, body := raw(t, a, "GET /reports HTTP/1.0\r\n\r\n")
	require.Equal(t, "[]\n", body)

	good := &report.Outcome{Number: 4, Result: report.Succeeded}
	f.answer <- Answer{Outcome: good}
	o, err := c.Upgrade(ctx, true)
	require.NoError(t, err)
	require.Equal(t, *good, o)
	q := <-f.asked
	require.True(t, q.Force)
	require.WithinDuration(t, time.Now(), q.At, time.Minute)

	bad := &report.Outcome{Number: 5, Result: report.Failed, Phase: report.Start, Reason: "exit status 3", Stderr: []string{"oops"}}
	f.answer <- Answer{Outcome: bad}
	o, err = c.Upgrade(ctx, false)
	require.NoError(t, err, "an outcome, if a bad one")
	require.Equal(t, *bad, o)
	require.False(t, (<-f.asked).Force)
	f.answer <- Answer{Outcome: bad}
	status, _ := raw(t, a, "POST /upgrade HTTP/1.0\r\n\r\n")
	require.Equal(t, http.StatusConflict, status)
	<-f.asked

	f.answer <- Answer{Refused: "the service stops"}
	_, err = c.Upgrade(ctx, false)
	var refused *Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "stopping", refused.Code)
	<-f.asked

	_, err = c.Request(ctx, false)
	require.NoError(t, err, "answered before the upgrade")
	<-f.asked

	// Nobody to move to: the client asks again, whoever serves then.
	f.answer <- Answer{Passed: true}
	f.answer <- Answer{Outcome: good}
	o, err = c.Upgrade(ctx, false)
	require.NoError(t, err)
	require.Equal(t, *good, o)
	require.NoError(t, s.Settle(ctx))
}

func TestErrorsHaveOneForm(t *testing.T) {
	_, _, _, a := serve(t, "unix", "")
	for _, tc := range []struct {
		request string
		status  int
		code    string
	}{
		{"GET /nothing", 404, "not_found"},
		{"POST /status", 405, "method_not_allowed"},
		{"POST /", 405, "method_not_allowed"},
		{"DELETE /page.js", 405, "method_not_allowed"},
		{"GET /upgrade", 405, "method_not_allowed"},
		{"POST /upgrade?force=perhaps", 400, "bad_parameter"},
		{"POST /upgrade?wait=perhaps", 400, "bad_parameter"},
	} {
		status, body := raw(t, a, tc.request+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		require.Equal(t, tc.status, status, tc.request)
		var f failure
		require.NoError(t, json.Unmarshal([]byte(body), &f), tc.request)
		require.Equal(t, tc.code, f.Error.Code)
		require.NotEmpty(t, f.Error.Message)
		require.Equal(t, 1, strings.Count(body, "\n"), "one line")
	}
}

func TestOverTCP(t *testing.T) {
	for name, tc := range map[string]struct {
		token, header string
		status        int
	}{
		"no token file": {"", "", 403},
		"no token":      {"secret", "", 401},
		"wrong token":   {"secret", "Authorization: Bearer secreT\r\n", 401},
		"wrong scheme":  {"secret", "Authorization: Basic secret\r\n", 401},
		"token":         {"secret", "Authorization: Bearer secret\r\n", 200},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, _, a := serve(t, "tcp", tc.token)
			f.answer <- Answer{Outcome: &report.Outcome{Number: 1, Result: report.Succeeded}}
			status, _ := raw(t, a, "POST /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+tc.header+"\r\n")
			require.Equal(t, tc.status, status)
			require.Equal(t, tc.status == 200, len(f.asked) == 1)
			status, _ = raw(t, a, "GET /status HTTP/1.1\r\nHost: 127.0.0.1:81\r\nConnection: close\r\n\r\n")
			require.Equal(t, 200, status, "everyone may look")
			status, _ = raw(t, a, "GET /status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
			require.Equal(t, 403, status, "a name that was made to point here")
		})
	}
	f, _, c, _ := serve(t, "tcp", "secret")
	f.answer <- Answer{Outcome: &report.Outcome{Number: 1, Result: report.Succeeded}}
	_, err := c.Upgrade(bounded(t), false)
	require.NoError(t, err, "the client sends it")
}

func TestEvents(t *testing.T) {
	f, _, c, _ := serve(t, "unix", "")
	done := errors.New("done")
	var got []report.Event
	err := c.Events(bounded(t), func(e report.Event) error {
		got = append(got, e)
		switch len(got) {
		case 1: // the stream has begun
			f.feed.Publish(report.Event{Kind: report.Ended, Outcome: &report.Outcome{Number: 9}})
			return nil
		default:
			return done
		}
	})
	require.ErrorIs(t, err, done)
	require.Equal(t, report.Changed, got[0].Kind)
	require.Equal(t, f.Status(), got[0].Status)
	require.Equal(t, 9, got[1].Outcome.Number)
}

func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	var f Feed
	require.False(t, f.Listened())
	slow, cancel := f.Subscribe()
	defer cancel()
	require.True(t, f.Listened())
	for range backlog + 1 {
		f.Publish(report.Event{})
	}
	n := 0
	for range slow { // and it ends
		n++
	}
	require.Equal(t, backlog, n)
	require.False(t, f.Listened())
	f.Publish(report.Event{})
}

func TestNobodyThere(t *testing.T) {
	c := NewClient(handoff.Address{Network: "unix", Addr: filepath.Join(t.TempDir(), "none")}, "")
	_, err := c.Status(bounded(t))
	require.ErrorIs(t, err, ErrNoService)
	require.ErrorContains(t, err, "is the service running?")
	require.ErrorIs(t, c.Watch(bounded(t), func(report.Event) error { return nil }), ErrNoService)
}

// A service that dies in the middle of its answer, and something else that listens.
func TestNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"dies":           {"", "EOF"},
		"dies half way":  {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "cut short"},
		"another server": {"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n", "no answer of a holdfast service: 404 Not Found: no"},
		"not JSON":       {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", "no answer of a holdfast service"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			ln, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer func() { _ = ln.Close() }()
			var peer sync.WaitGroup
			defer peer.Wait()
			peer.Go(func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, tc.text)
				_ = c.Close()
			})
			_, err = NewClient(handoff.Address{Network: "unix", Addr: path}, "").Upgrade(bounded(t), false)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// The next generation's half of a question that has moved.
func TestResume(t *testing.T) {
	f := newFake()
	s := NewServer(f, "")
	here, there := net.Pipe()
	at := time.Now().Add(-time.Minute).UTC()
	state, err := json.Marshal(Request{At: at, Force: true})
	require.NoError(t, err)
	f.answer <- Answer{Outcome: &report.Outcome{Number: 2, Result: report.Failed}}
	var done sync.WaitGroup
	done.Go(func() { s.Resume(context.Background(), here, state) })
	resp, err := http.ReadResponse(bufio.NewReader(there), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusConflict, resp.StatusCode)
	var o report.Outcome
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&o))
	require.Equal(t, 2, o.Number)
	q := <-f.asked
	require.True(t, q.Force)
	require.True(t, q.At.Equal(at), "when it was asked, not when it moved")
	_ = there.Close()
	done.Wait()
	require.NoError(t, s.Settle(bounded(t)))
}

func TestSettleWaits(t *testing.T) {
	f, s, c, _ := serve(t, "unix", "")
	var asked sync.WaitGroup
	asked.Go(func() { _, _ = c.Upgrade(bounded(t), false) })
	<-f.asked
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, s.Settle(ended), context.Canceled)
	f.answer <- Answer{Outcome: &report.Outcome{Number: 1, Result: report.Succeeded}}
	require.NoError(t, s.Settle(bounded(t)))
	asked.Wait()
}
