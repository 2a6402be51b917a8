package upgrade

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func writeStatus(t *testing.T, pidFile string, s Status) {
	t.Helper()
	b, err := json.Marshal(s)
	require.NoError(t, err)
	tmp := statePath(pidFile) + ".tmp"
	require.NoError(t, os.WriteFile(tmp, b, 0o600))
	require.NoError(t, os.Rename(tmp, statePath(pidFile)))
}

func TestWait(t *testing.T) {
	pid := os.Getpid()
	now := time.Now()
	for _, tc := range []struct {
		name    string
		status  Status
		failure string
	}{
		{"success", Status{PID: 2, Upgrade: &Outcome{Number: 1, Result: Succeeded, From: pid, To: 2}}, ""},
		{"failure", Status{PID: pid, State: "serving", Upgrade: &Outcome{Number: 1, Result: Failed, From: pid, Phase: "start", Reason: "exit status 3", Requested: now}}, "the upgrade failed (phase start): exit status 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.pid")
			writeStatus(t, path, tc.status)
			o, err := Wait(t.Context(), path, pid)
			require.Equal(t, tc.status.Upgrade.Result, o.Result)
			if tc.failure == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.failure)
		})
	}
}

// The caller was slower than the upgrade: pid is already the successor's.
func TestWaitForTheSuccessorItself(t *testing.T) {
	pid := os.Getpid()
	path := filepath.Join(t.TempDir(), "app.pid")
	done := Outcome{Number: 1, Result: Succeeded, From: 1, To: pid, Requested: time.Now(), Ended: time.Now()}
	writeStatus(t, path, Status{PID: pid, State: "serving", Upgrade: &done})
	o, err := Wait(t.Context(), path, pid)
	require.NoError(t, err)
	require.Equal(t, 1, o.Number)

	// Unless it has been asked again: then that is the answer.
	writeStatus(t, path, Status{PID: pid, State: "serving", Queued: true, Upgrade: &done})
	answer := make(chan error, 1)
	go func() { _, err := Wait(t.Context(), path, pid); answer <- err }()
	select {
	case err := <-answer:
		t.Fatal("answered while a request was queued: ", err)
	case <-time.After(2 * signalGrace):
	}
	writeStatus(t, path, Status{PID: pid, State: "serving", Upgrade: &Outcome{Number: 2, Result: Failed, From: pid, Reason: "bad", Requested: time.Now()}})
	require.ErrorContains(t, <-answer, "bad")
}

// An older failure is not the answer; what follows is.
func TestWaitIsNotFooledByAnEarlierFailure(t *testing.T) {
	pid := os.Getpid()
	path := filepath.Join(t.TempDir(), "app.pid")
	old := Outcome{Number: 1, Result: Failed, From: pid, Reason: "yesterday's", Requested: time.Now().Add(-time.Hour)}
	writeStatus(t, path, Status{PID: pid, State: "serving", Upgrade: &old})
	answer := make(chan error, 1)
	go func() { _, err := Wait(t.Context(), path, pid); answer <- err }()
	writeStatus(t, path, Status{PID: pid, State: "upgrading", Upgrade: &Outcome{Number: 2, Result: Running, From: pid, Requested: time.Now()}})
	writeStatus(t, path, Status{PID: pid, State: "serving", Upgrade: &Outcome{Number: 2, Result: Failed, From: pid, Reason: "today's", Requested: time.Now()}})
	require.ErrorContains(t, <-answer, "today's")
}

func TestWaitEndsWithTheProcess(t *testing.T) {
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	path := filepath.Join(t.TempDir(), "app.pid")
	_, err := Wait(t.Context(), path, cmd.Process.Pid)
	require.ErrorContains(t, err, "is gone and no successor has taken over")
}

func TestWaitIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Wait(ctx, filepath.Join(t.TempDir(), "app.pid"), os.Getpid())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = Wait(ctx, filepath.Join(t.TempDir(), "app.pid"), 0)
	require.ErrorContains(t, err, "is the service running?")
}
