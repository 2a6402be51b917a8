//go:build integration && linux

package supervise

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// contained starts supervise as PID 1 of a PID namespace with a /proc of its own.
func contained(t *testing.T, s *service) *running {
	t.Helper()
	unshare := loadtest.Tool(t, "unshare")
	if out, err := exec.Command(unshare, "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %v: %s", err, out)
	}
	p := s.start(append([]string{unshare, "--pid", "--fork", "--mount-proc", "--kill-child"}, s.supervise()...))
	until(t, "PID 1 is there", func() bool {
		living, _ := children(t, p.cmd.Process.Pid)
		if len(living) == 1 {
			p.pid = living[0]
		}
		return len(living) == 1
	})
	s.proc = filepath.Join("/proc", strconv.Itoa(p.pid), "root", "proc")
	return p
}

// TestI9_AsPID1 is the life of a container.
func TestI9_AsPID1(t *testing.T) {
	t.Run("upgrades, orphans, TERM", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		p := contained(t, s)
		require.Greater(t, 20, s.serves().PID, "in the namespace's numbers")
		s.lossless(func() { p.signal(syscall.SIGUSR2) })
		tidy(t, p.pid)
		// Strangers' orphans, as a health check of the engine leaves them.
		out, err := exec.Command(loadtest.Tool(t, "nsenter"), "-t", strconv.Itoa(p.pid), "-p", "-m", "sh", "-c",
			"for i in 1 2 3 4 5; do (sh -c 'sleep 0.1; exit 3' >/dev/null 2>&1 &); done; (setsid sleep 60 >/dev/null 2>&1 &)").CombinedOutput()
		require.NoError(t, err, "%s", out)
		until(t, "all but the one that lives are reaped", func() bool {
			living, zombies := children(t, p.pid)
			return len(living) == 2 && len(zombies) == 0
		})
		p.signal(syscall.SIGTERM)
		p.exits(0)
		s.nothingLeft()
	})
	t.Run("INT", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		p := contained(t, s)
		s.serves()
		s.upgrade(func() { p.signal(syscall.SIGHUP) })
		p.signal(syscall.SIGINT)
		p.exits(0)
		s.nothingLeft()
	})
	t.Run("crash", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		p := contained(t, s)
		s.serves()
		first, _ := children(t, p.pid)
		s.upgrade(func() { p.signal(syscall.SIGUSR2) })
		until(t, "the first generation has made way", func() bool { return !exists(first[0]) })
		living, _ := children(t, p.pid)
		require.Len(t, living, 1)
		require.NoError(t, syscall.Kill(living[0], syscall.SIGKILL))
		p.exits(137)
	})
	t.Run("a PID file from another container", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		for _, pid := range []string{"1", "2", "7"} {
			writePID(t, s.pidFile, pid)
			p := contained(t, s)
			s.serves()
			p.signal(syscall.SIGTERM)
			p.exits(0)
		}
		s.nothingLeft()
	})
	t.Run("killed", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		p := contained(t, s)
		s.serves()
		living, _ := children(t, p.pid)
		require.Len(t, living, 1)
		p.signal(syscall.SIGKILL)
		<-p.exited
		until(t, "the kernel ends the namespace", func() bool { return !exists(living[0]) })
	})
}
