package load

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func command(t *testing.T, role string) Command {
	t.Helper()
	c := Serve(os.Args[0], t.TempDir(), "127.0.0.1:0")
	// Under -race a process sleeps for a second before it exits, unless told not to.
	c.Env = []string{childRole + "=" + role, "GORACE=atexit_sleep_ms=0"}
	return c
}

func start(t *testing.T, role string) *Process {
	t.Helper()
	p, err := command(t, role).Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	return p
}

// The whole of it: a server under load is upgraded, is seen to lose nothing but what
// Shutdown loses, and is gone afterwards.
func TestUpgradeUnderLoad(t *testing.T) {
	p := start(t, "good")
	first := p.Version()
	require.Equal(t, 1, first.Generation)
	require.Equal(t, p.child.Process.Pid, first.PID)

	r, err := New(Workload{Kind: Hello, Addr: p.Addr("http"), Conns: 2, NewConn: true, Pause: 4 * time.Millisecond})
	require.NoError(t, err)
	r.Start(t.Context())
	pids := []int{first.PID}
	for i := range 3 {
		up, err := p.Upgrade(t.Context())
		require.NoError(t, err)
		require.Equal(t, i+2, up.Generation)
		require.Equal(t, pids[len(pids)-1], up.OldPID)
		require.Positive(t, up.Took)
		require.NoError(t, p.WaitGone(t.Context(), up.OldPID))
		pids = append(pids, up.PID)
	}
	for _, pid := range pids[:3] {
		require.NotContains(t, groupMembers(first.PID), pid)
	}
	tally := r.Stop()
	require.Positive(t, tally.Total().Answered)
	require.NoError(t, p.Stop(t.Context()), "Stop")
	require.Empty(t, groupMembers(first.PID))
	require.NoError(t, p.Stop(t.Context()), "a second time")
	_, err = AskVersion(t.Context(), p.Addr("http"))
	require.ErrorContains(t, err, "refused")
}

func TestStartFails(t *testing.T) {
	_, err := command(t, "exit").Start(t.Context())
	require.ErrorIs(t, err, errExited)
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "no such luck")

	mute := command(t, "mute")
	mute.StartTimeout = 300 * time.Millisecond
	_, err = mute.Start(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, `"serving"`)

	_, err = Serve(filepath.Join(t.TempDir(), "missing"), t.TempDir()).Start(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestUpgradeFails(t *testing.T) {
	p := start(t, "stuck")
	p.cmd.UpgradeTimeout = 500 * time.Millisecond
	_, err := p.Upgrade(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, p.Version().Generation)
	p.Kill() // with the generation that no one has seen
	require.Empty(t, groupMembers(p.child.Process.Pid))

	p = start(t, "dies")
	began := time.Now()
	_, err = p.Upgrade(t.Context())
	require.ErrorIs(t, err, os.ErrProcessDone)
	require.Less(t, time.Since(began), 5*time.Second, "it is an event, not a timeout")
}

func TestStopTellsWhatIsLeft(t *testing.T) {
	p := start(t, "stray")
	group := p.child.Process.Pid
	require.ErrorContains(t, p.Stop(t.Context()), "left behind")
	require.Empty(t, groupMembers(group))

	p = start(t, "deaf")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, p.Stop(ctx), context.DeadlineExceeded)
	require.Empty(t, groupMembers(p.child.Process.Pid))
}

func TestLife(t *testing.T) {
	c := exec.Command("sleep", "60")
	require.NoError(t, c.Start())
	l, err := holdLife(c.Process.Pid)
	require.NoError(t, err)
	defer l.close()
	require.False(t, l.ended())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.wait(ctx), context.DeadlineExceeded)
	require.NoError(t, l.signal(syscall.SIGKILL))
	require.Error(t, c.Wait())
	require.NoError(t, l.wait(t.Context()), "after an earlier wait was given up")
	require.True(t, l.ended())
	require.ErrorIs(t, l.signal(syscall.SIGTERM), os.ErrProcessDone)
	_, err = holdLife(c.Process.Pid)
	require.ErrorIs(t, err, os.ErrProcessDone)
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]Addr{
		"http=127.0.0.1:80":   {Network: "tcp", Address: "127.0.0.1:80"},
		"[::1]:80":            {Network: "tcp", Address: "[::1]:80"},
		"http=unix:/run/x=.s": {Network: "unix", Address: "/run/x=.s"},
		"unix:/run/x.s":       {Network: "unix", Address: "/run/x.s"},
	} {
		name, got := parseAddr(in)
		require.Equal(t, "http", name)
		require.Equal(t, want, got)
	}
}
