//go:build integration && linux

package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// supervisordMain is what Debian installs as /etc/supervisor/supervisord.conf, with
// the paths of the test.
const supervisordMain = `[unix_http_server]
file=DIR/supervisor.sock
chmod=0700
[supervisord]
nodaemon=true
logfile=DIR/supervisord.log
pidfile=DIR/supervisord.pid
childlogdir=DIR
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://DIR/supervisor.sock
[include]
files = DIR/holdfast.conf
`

// manager is a private supervisord with the shipped configuration.
type manager struct {
	*service
	daemon *running
}

func startSupervisord(t *testing.T) *manager {
	t.Helper()
	m := &manager{service: newService(t, "")}
	m.listen = "unix:" + m.path("http.sock")
	m.serveSettings()
	shipped, err := os.ReadFile("../alternatives/supervisord.conf")
	require.NoError(t, err)
	text := strings.NewReplacer(
		"/opt/holdfast/current/holdfast", m.binary,
		"/var/lib/holdfast/holdfast.pid", m.pidFile,
		"/etc/holdfast/config.yml", m.path("config.yml"),
		"/var/log/supervisor/holdfast.log", m.path("stderr.log"),
		"\nuser=holdfast\n", "\n",
	).Replace(string(shipped))
	require.NotContains(t, text, "/etc/holdfast")
	require.NoError(t, os.WriteFile(m.path("holdfast.conf"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(m.path("main.conf"), []byte(strings.ReplaceAll(supervisordMain, "DIR", m.dir)), 0o600))
	m.daemon = m.start([]string{loadtest.Tool(t, "supervisord"), "-c", m.path("main.conf")})
	until(t, "it runs", func() bool { return strings.Contains(m.ctl("status"), "RUNNING") })
	m.serves()
	return m
}

// serveSettings writes the configuration file of the service.
func (s *service) serveSettings() {
	s.t.Helper()
	text := fmt.Sprintf("addr: %q\nidentify: true\ndrain-timeout: 10s\nlog-file: %s\n", s.listen, s.log)
	require.NoError(s.t, os.WriteFile(s.path("config.yml"), []byte(text), 0o600))
}

// ctl is supervisorctl; its exit code says little.
func (m *manager) ctl(args ...string) string {
	out, _ := exec.Command("supervisorctl", append([]string{"-c", m.path("main.conf")}, args...)...).CombinedOutput()
	return string(out)
}

// logged waits for a line of supervisord's.
func (m *manager) logged(text string) {
	m.t.Helper()
	until(m.t, "supervisord logs "+text, func() bool {
		b, _ := os.ReadFile(m.path("supervisord.log"))
		return strings.Contains(string(b), text)
	})
}

// supervisor is the pid of supervise, as supervisord has it.
func (m *manager) supervisor() int {
	m.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(m.ctl("pid", "holdfast")))
	require.NoError(m.t, err)
	return pid
}

// TestI9_UnderSupervisord: upgrades in the three ways of an operator, a crash, a stop.
func TestI9_UnderSupervisord(t *testing.T) {
	m := startSupervisord(t)
	parent := m.supervisor()
	m.lossless(func() { require.NoError(t, syscall.Kill(parent, syscall.SIGUSR2)) })
	m.upgrade(func() { require.Contains(t, m.ctl("signal", "USR2", "holdfast"), "holdfast: signal") })
	m.upgrade(func() {
		out, err := exec.Command(m.binary, "upgrade", "--pid-file", m.pidFile).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	tidy(t, parent)
	require.Equal(t, parent, m.supervisor(), "to supervisord it is one process")

	living, _ := children(t, parent)
	require.Equal(t, []int{m.named()}, living)
	require.NoError(t, syscall.Kill(m.named(), syscall.SIGKILL))
	m.logged("exited: holdfast (exit status 137; not expected)")
	until(t, "it is started again", func() bool {
		return strings.Contains(m.ctl("status"), "RUNNING") && m.named() != living[0] && exists(m.named())
	})
	m.serves()

	require.NoError(t, syscall.Kill(m.supervisor(), syscall.SIGTERM))
	m.logged("exited: holdfast (exit status 0; expected)")
	until(t, "it is started again", func() bool { return strings.Contains(m.ctl("status"), "RUNNING") })
	m.serves()
	require.Contains(t, m.ctl("stop", "holdfast"), "stopped")
	require.Contains(t, m.ctl("status"), "STOPPED")
	m.logged("stopped: holdfast (exit status 0)")
	m.nothingLeft()
	m.daemon.signal(syscall.SIGTERM)
	m.daemon.exits(0)
}

// TestI9_UnderRunit is the same for runsv, in short.
func TestI9_UnderRunit(t *testing.T) {
	runsv, sv := loadtest.Tool(t, "runsv"), loadtest.Tool(t, "sv")
	s := newService(t, "")
	s.listen = "unix:" + s.path("http.sock")
	s.serveSettings()
	shipped, err := os.ReadFile("../alternatives/runit/run")
	require.NoError(t, err)
	text := strings.NewReplacer(
		"/opt/holdfast/current/holdfast", s.binary,
		"/var/lib/holdfast/holdfast.pid", s.pidFile,
		"/etc/holdfast/config.yml", s.path("config.yml"),
		"chpst -u holdfast ", "",
	).Replace(string(shipped))
	require.NoError(t, os.Mkdir(s.path("sv"), 0o755))
	require.NoError(t, os.WriteFile(s.path("sv/run"), []byte(text), 0o755))
	p := s.start([]string{runsv, s.path("sv")})
	first := s.serves()
	ctl := func(args ...string) string {
		out, err := exec.Command(sv, append(args, s.path("sv"))...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	s.upgrade(func() { ctl("2") })
	until(t, "the first generation has made way", func() bool { return !exists(first.PID) })
	require.NoError(t, syscall.Kill(s.named(), syscall.SIGKILL))
	until(t, "it is started again", func() bool { return s.named() != first.PID && exists(s.named()) })
	s.serves()
	require.Contains(t, ctl("-w", "20", "stop"), "ok: down")
	s.nothingLeft()
	p.signal(syscall.SIGTERM)
	<-p.exited
}
