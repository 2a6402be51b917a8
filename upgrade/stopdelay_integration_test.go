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
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// A service that is told to stop serves on, on kept and on new connections, and only
// says that it is not ready. A second signal ends that.
func TestBeforeADelayedStop(t *testing.T) {
	o := startOperator(t, "--stop-delay", "1h")
	u := up(t, o.Process)
	gone(t, o.Process, u.OldPID) // the drain of an old generation has no such delay
	body, err := request(t, o.Process, "/readyz")()
	require.NoError(t, err)
	require.Equal(t, `{"status":"ready"}`, body)

	r := loadtest.Start(t,
		load.Workload{Name: "kept", Kind: load.Echo, Addr: o.Addr("http"), Conns: 4, Pause: 5 * time.Millisecond},
		load.Workload{Name: "new", Kind: load.Echo, Addr: o.Addr("http"), Conns: 2, Pause: 5 * time.Millisecond, NewConn: true})
	loadtest.Flowing(t, r, 10)
	pid := signal(t, o.cmd.PIDFile, syscall.SIGTERM)
	logged(t, o.Process, `"to":"withdrawing"`)
	body, err = request(t, o.Process, "/readyz")()
	require.NoError(t, err)
	require.Equal(t, `{"status":"unready","reason":"withdrawing"}`, body)
	loadtest.Flowing(t, r, 100)
	tally := r.Stop()
	require.NoError(t, tally.Err())
	require.Zero(t, tally.Total().ToldToClose)

	require.Equal(t, "withdrawing", o.status().State)
	out, _, err := o.run("status")
	require.NoError(t, err)
	require.Contains(t, out, fmt.Sprintf("withdrawing, generation 2, pid %d,", pid))
	status, _, err := o.post("")
	require.NoError(t, err)
	require.Equal(t, 503, status, "no upgrade any more")
	require.NoError(t, syscall.Kill(pid, syscall.SIGUSR2))
	logged(t, o.Process, "request for an upgrade refused: the service stops")

	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	gone(t, o.Process, pid)
}

// Then it stops as it does without a delay, and the file of a Unix socket has been
// there until then.
func TestADelayedStop(t *testing.T) {
	const delay = 300 * time.Millisecond
	socket := filepath.Join(t.TempDir(), "s")
	cmd := load.Serve(build(t, "."), t.TempDir(), "unix:"+socket)
	cmd.Args = append(cmd.Args, "--stop-delay", delay.String())
	p := start(t, cmd)
	slow := request(t, p, "/slow?ms=800") // longer than the delay
	began := time.Now()
	pid := signal(t, cmd.PIDFile, syscall.SIGTERM)
	logged(t, p, `"from":"withdrawing","to":"stopping"`)
	require.GreaterOrEqual(t, time.Since(began), delay)
	body, err := slow()
	require.NoError(t, err)
	require.Equal(t, "slow", body)
	gone(t, p, pid)
	stop(t, p) // and it exited with 0
	_, err = os.Stat(socket)
	require.ErrorIs(t, err, os.ErrNotExist)
}
