//go:build integration

package systemd_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

func TestServiceUnderSystemd(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		build(t, dir, "v2")
	})
	if m == nil {
		return
	}
	place(t, m.Dir, filepath.Join(m.Dir, "v1"))
	m.Must("start", unit)
	v := agreed(t, m)
	require.Equal(t, 1, v.Generation)
	require.Equal(t, "v1", v.Build)

	underLoad(t, func() {
		for i := range 5 {
			release := []string{"v2", "v1"}[i%2]
			place(t, m.Dir, filepath.Join(m.Dir, release))
			old := v.PID
			out, err := m.Systemctl("reload", unit)
			require.NoError(t, err, "%s\n%s", out, m.Log())
			v = agreed(t, m)
			require.Equal(t, i+2, v.Generation)
			require.Equal(t, release, v.Build)
			require.NotEqual(t, old, v.PID)
			require.Equal(t, "active", m.Show(unit, "ActiveState"))
			require.Contains(t, m.Show(unit, "StatusText"), "serving, generation "+strconv.Itoa(v.Generation))
		}
		// A bad release: the reload fails, the service does not.
		place(t, m.Dir, script(t, filepath.Join(m.Dir, "bad"), "echo no database >&2; exit 3"))
		began := time.Now()
		out, err := m.Systemctl("reload", unit)
		require.Error(t, err, "the reload tells the truth: %s", out)
		require.Less(t, time.Since(began), 30*time.Second)
		require.Equal(t, "active", m.Show(unit, "ActiveState"))
		require.Equal(t, v, agreed(t, m), "the old generation goes on")
		require.Contains(t, m.Show(unit, "StatusText"), "upgrade failed")
		// And the next good one is taken.
		place(t, m.Dir, filepath.Join(m.Dir, "v2"))
		m.Must("reload", unit)
		require.Equal(t, v.Generation+1, agreed(t, m).Generation)
	})

	// A stop while an old generation drains: its last request is answered.
	slow := ask(t, "/slow?ms=1500")
	eventually(t, m, "the request has arrived", inFlight(t, slow))
	m.Must("reload", unit)
	began := time.Now()
	m.Must("stop", unit)
	require.Less(t, time.Since(began), 20*time.Second)
	body, err := slow.answer()
	require.NoError(t, err)
	require.Equal(t, "slow", body)
	require.Equal(t, "inactive", m.Show(unit, "ActiveState"))
	require.Equal(t, "success", m.Show(unit, "Result"))
	_, err = os.Stat(filepath.Join(m.RuntimeDir(), "holdfast"))
	require.ErrorIs(t, err, os.ErrNotExist)

	// A crash: systemd starts the service again.
	for _, upgraded := range []bool{false, true} {
		m.Must("start", unit)
		if upgraded {
			m.Must("reload", unit) // the main process is none that systemd has started
		}
		v = agreed(t, m)
		require.NoError(t, syscall.Kill(v.PID, syscall.SIGKILL))
		eventually(t, m, "it is started again", func() bool {
			now, err := load.AskVersion(context.Background(), server)
			return err == nil && now.PID != v.PID
		})
		eventually(t, m, "it is active", func() bool { return m.Show(unit, "ActiveState") == "active" })
		require.Equal(t, 1, agreed(t, m).Generation)
	}
	m.Must("stop", unit)
}

// TestSocketUnit has systemd hold the socket: a restart refuses nobody.
func TestSocketUnit(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		b, err := os.ReadFile("holdfast.socket")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "units", "holdfast.socket"), b, 0o600))
	})
	if m == nil {
		return
	}
	place(t, m.Dir, filepath.Join(m.Dir, "v1"))
	m.Must("start", "holdfast.socket")
	require.Equal(t, "inactive", m.Show(unit, "ActiveState"))
	// The first connection starts the service, and is answered.
	v, err := load.AskVersion(context.Background(), server)
	require.NoError(t, err)
	require.Equal(t, 1, v.Generation)
	eventually(t, m, "it says that it has systemd's socket, not the configured address", func() bool {
		log, err := os.ReadFile(filepath.Join(m.Dir, "app.log"))
		return err == nil && strings.Contains(string(log), `"addrs":["http=[::]:8080"]`)
	})

	underLoad(t, func() {
		for range 3 {
			m.Must("reload", unit)
		}
	})
	require.Equal(t, 4, agreed(t, m).Generation)

	// New connections through a restart wait, and are answered.
	r, err := load.New(load.Workload{Kind: load.Hello, Addr: server, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond})
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	for range 3 {
		m.Must("restart", unit)
		require.Equal(t, 1, agreed(t, m).Generation)
	}
	tally := r.Stop()
	require.NoError(t, tally.Err())
	t.Logf("new connections through 3 restarts: sent %d, failed 0", tally.Total().Sent)
	m.Must("stop", "holdfast.socket", unit)
}

// asked is a request on a connection of its own.
type asked struct {
	conn net.Conn
}

func ask(t *testing.T, path string) asked {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	return asked{conn: c}
}

func (a asked) answer() (string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// inFlight tells whether the kernel has delivered what was sent: the server has
// read it.
func inFlight(t *testing.T, a asked) func() bool {
	t.Helper()
	port := a.conn.LocalAddr().(*net.TCPAddr).Port
	return func() bool {
		b, err := os.ReadFile("/proc/net/tcp") // proc_pid_net(5): queues of each socket
		require.NoError(t, err)
		remote := strings.ToUpper(strconv.FormatInt(int64(port)+0x10000, 16)[1:])
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 4 && strings.HasSuffix(f[2], ":"+remote) && f[3] == "01" {
				return strings.HasSuffix(f[4], ":00000000")
			}
		}
		return false
	}
}
