//go:build integration && linux

package upgrade_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI4_DiskFull: there is no room for the PID file, the state, the reports and the
// log. The service goes on serving and says so; with room again it is upgraded.
func TestI4_DiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mount(2) needs root")
	}
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	require.NoError(t, os.Mkdir(full, 0o755))
	require.NoError(t, syscall.Mount("tmpfs", full, "tmpfs", 0, "mode=755,size=4m"))
	t.Cleanup(func() { _ = syscall.Unmount(full, syscall.MNT_DETACH) })

	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	for i, a := range cmd.Args {
		if a == cmd.PIDFile {
			cmd.Args[i] = filepath.Join(full, "server.pid")
		}
	}
	cmd.PIDFile = filepath.Join(full, "server.pid")
	cmd.Log = filepath.Join(full, "app.log")
	cmd.Args = append(cmd.Args, "--log-file", cmd.Log)
	p := start(t, cmd)
	r := loadtest.Start(t, load.Workload{Kind: load.Echo, Conns: 16, Pause: 5 * time.Millisecond, Addr: p.Addr("http")})
	loadtest.Flowing(t, r, 16)

	// Fills what the log leaves; the log fills what is left then.
	filler := filepath.Join(full, "filler")
	fill := exec.Command("dd", "if=/dev/zero", "of="+filler, "bs=4096")
	b, err := fill.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(b), "No space left")
	loadtest.Flowing(t, r, 16)

	ask := func() (string, error) {
		b, err := exec.Command(cmd.Binary, "upgrade", "--pid-file", cmd.PIDFile, "--timeout", "30s").CombinedOutput()
		return string(b), err
	}
	pid := p.Version().PID
	said, err := ask()
	require.Error(t, err)
	require.Contains(t, said, "no space left on device")
	require.Contains(t, said, "phase commit")
	v, err := load.AskVersion(t.Context(), p.Addr("http"))
	require.NoError(t, err)
	require.Equal(t, pid, v.PID, "the old generation goes on")
	loadtest.Flowing(t, r, 16)

	require.NoError(t, os.Remove(filler))
	said, err = ask()
	require.NoError(t, err, said)
	require.Contains(t, said, "succeeded")
	loadtest.Flowing(t, r, 16)
	tally := r.Stop()
	require.NoError(t, tally.Err())
	require.Zero(t, tally.Total().Reconnects+tally.Total().ToldToClose)
	t.Logf("sent %d, failed 0; said: %s", tally.Total().Sent, said)
	gone(t, p, pid)
	// The harness has not asked for this upgrade, so it does not know the last one.
	last := signal(t, cmd.PIDFile, syscall.SIGTERM)
	require.Eventually(t, func() bool { return syscall.Kill(last, 0) != nil }, 20*time.Second, 5*time.Millisecond)
}
