//go:build integration && linux

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// A stop in the middle of an upgrade ends both processes, the old one after its delay.
func TestStopDuringAnUpgrade(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast")
	install(t, build(t, "."), path)
	cmd := load.Serve(path, dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--stop-delay", "200ms")
	p := start(t, cmd)
	install(t, build(t, "./testdata/releases/hangs"), path)
	pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
	var n int
	require.Eventually(t, func() bool { n, _ = children(t, pid); return n == 1 }, 10*time.Second, time.Millisecond)
	began := time.Now()
	stop(t, p) // one SIGTERM; fails if a process is left, or the exit code is not 0
	require.Less(t, time.Since(began), 20*time.Second, "long before the upgrade would have timed out")
	logged(t, p, `"from":"upgrading","to":"withdrawing"`)
	_, err := os.Stat(cmd.PIDFile)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestI2_StopDuringTheTakeover: the old generation is told to stop while its
// connections move. It calls the upgrade off and takes them back, or, if the new
// generation has committed by then, stops that too: what is in flight is answered,
// whoever has it, and then both are gone.
func TestI2_StopDuringTheTakeover(t *testing.T) {
	const slow, idle = 50, 300
	m := startMortal(t, 8, idle, "--drain-timeout", "5s")
	m.hold(500)
	end := newFlock(t, m.Addr("http").Address, slow).begin("GET /slow?ms=2000 HTTP/1.1\r\nHost: x\r\n\r\n", "slow")
	require.Eventually(t, func() bool { return connections(t, m.Version().PID) == 8+idle+slow+1 }, 10*time.Second, time.Millisecond)
	old := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
	logged(t, m.Process, `"generation":2,"role":"server","request_id"`) // moved, and answered over there
	require.NoError(t, syscall.Kill(old, syscall.SIGTERM))
	tally := m.runner.Stop() // what it is at is answered, too
	require.NoError(t, tally.Err())
	h := end()
	require.Equal(t, slow, h.answered)
	require.Zero(t, h.lost)
	m.release()
	gone(t, m.Process, old)
	stop(t, m.Process) // fails if a process is left, or the exit code is not 0
	var states []string
	for _, e := range events(t, m.LogPath(), "drained") {
		require.Nil(t, e.Balances)
		require.Zero(t, e.Dropped, "nothing is cut")
		states = append(states, fmt.Sprintf("generation %d: %d connections, moved %d, closed %d, silent %d", e.Generation, e.Connections, e.Moved, e.Closed, e.Retired))
	}
	require.NotEmpty(t, states)
	require.Empty(t, events(t, m.LogPath(), "request cut by the drain deadline"))
	t.Logf("in flight %+v; busy sent %d, failed 0, reconnects %d; %v", h, tally.Total().Sent, tally.Total().Reconnects, states)
	_, err := os.Stat(m.cmd.PIDFile)
	require.ErrorIs(t, err, os.ErrNotExist)
}
