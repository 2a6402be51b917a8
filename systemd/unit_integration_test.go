//go:build integration

package systemd_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/systemd"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// analyze runs systemd-analyze. It exits with 0 where a unit has an unknown key: any
// word is one too many.
func analyze(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), loadtest.Tool(t, "systemd-analyze"), args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "SYSTEMD_COLORS=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if !strings.Contains(strings.Join(args, " "), "security") {
		require.Empty(t, string(out))
	}
}

// exposed is the highest exposure that passes, in tenths: 2.0.
const exposed = "--threshold=20"

// TestUnitsAreAccepted has systemd itself judge the files that ship, and what the
// command prints.
func TestUnitsAreAccepted(t *testing.T) {
	dir := t.TempDir()
	program := build(t, dir, "v1")
	t.Run("shipped", func(t *testing.T) {
		at := t.TempDir()
		for _, name := range []string{unit, "holdfast.socket"} {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			// A binary that exists: verify looks for it.
			text := strings.ReplaceAll(string(b), "/opt/holdfast/current/holdfast", program)
			require.NoError(t, os.WriteFile(filepath.Join(at, name), []byte(text), 0o600))
		}
		analyze(t, "verify", "--man=no", filepath.Join(at, unit), filepath.Join(at, "holdfast.socket"))
		analyze(t, "security", "--offline=true", exposed, filepath.Join(at, unit))
	})
	for name, tc := range map[string]struct {
		args    []string
		sockets []string
	}{
		"plain":        {nil, []string{"holdfast.socket"}},
		"TLS, port 80": {[]string{"--addr", "http=:80,https=[::]:443", "--tls-cert", "c.pem", "--tls-key", "k.pem"}, []string{"holdfast.socket=http", "holdfast-https.socket=https"}},
		"Unix socket":  {[]string{"--addr", "unix:/run/holdfast/s", "--unix-mode", "0600"}, []string{"holdfast.socket"}},
		"all kinds": {[]string{
			"--addr", "a=unix:/srv/100% a/s", "--addr", "b=[fe80::1%lo]:81", "--addr", "c=unix:@a", "--admin", "127.0.0.1:82", "--pid-file", "/run/app/x y/5%.pid", "--state-dir", "/srv/$x",
			"--log-file", "/var/log/holdfast/a.log", "--gate", `exec sh -c "echo '$x' ; 5%"`, "--probation", "15m", "--rule", "panics <= 0", "--drain-timeout", "1h",
		}, []string{"holdfast.socket=a", "holdfast-b.socket=b", "holdfast-c.socket=c"}},
	} {
		for _, manager := range []string{"--system", "--user"} {
			t.Run(name+manager, func(t *testing.T) {
				at := t.TempDir()
				args := append([]string{"unit"}, tc.args...)
				if manager == "--user" {
					args = append(args, "--user")
				}
				files := []string{filepath.Join(at, unit)}
				install(t, files[0], program, args...)
				for _, file := range tc.sockets {
					file, listener, named := strings.Cut(file, "=")
					flag := "--socket"
					if named {
						flag += "=" + listener
					}
					files = append(files, filepath.Join(at, file))
					install(t, filepath.Join(at, file), program, append(args, flag)...)
				}
				analyze(t, append([]string{manager, "verify", "--man=no"}, files...)...)
				if manager == "--system" { // a user's manager has not what the scale counts
					analyze(t, "security", "--offline=true", exposed, files[0])
				}
			})
		}
	}
}

// install writes what the program prints into a file, as an operator would.
func install(t *testing.T, file, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	out, err := cmd.Output()
	require.NoError(t, err, "%v", args)
	require.NoError(t, os.WriteFile(file, out, 0o600))
}

// TestPrintedUnits starts what `holdfast unit --user` prints, as it is.
func TestPrintedUnits(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		build(t, dir, "v1")
		config := "identify: true\ndrain-timeout: 10s\nlog-file: " + filepath.Join(dir, "app.log") + "\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600))
	})
	if m == nil {
		return
	}
	// The name by which it is called, not what that leads to, is in the unit.
	program := filepath.Join(m.Dir, "current")
	require.NoError(t, os.Symlink("v1", program))
	settings := []string{"unit", "--user", "--config", filepath.Join(m.Dir, "config.yml"), "--addr", address}
	put := func(file string, more ...string) {
		install(t, filepath.Join(m.Dir, "units", file), program, append(settings, more...)...)
		m.Must("daemon-reload")
	}

	put(unit)
	m.Must("start", unit)
	require.Equal(t, "v1", agreed(t, m).Build)
	underLoad(t, func() {
		for range 3 {
			m.Must("reload", unit)
		}
		require.NoError(t, os.Remove(program))
		script(t, program, "exit 3")
		_, err := m.Systemctl("reload", unit)
		require.Error(t, err, "the reload tells the truth")
	})
	require.Equal(t, 4, agreed(t, m).Generation)
	require.NoError(t, os.Remove(program))
	require.NoError(t, os.Symlink("v1", program))
	m.Must("stop", unit)
	require.Equal(t, "success", m.Show(unit, "Result"))
	reports, err := os.ReadFile(filepath.Join(m.Dir, "home", "holdfast", "holdfast.pid.reports"))
	require.NoError(t, err, "they outlive the stop")
	require.Equal(t, 1, strings.Count(string(reports), `"failed"`))

	put("holdfast.socket", "--socket")
	m.Must("start", "holdfast.socket")
	_, err = load.AskVersion(context.Background(), server)
	require.NoError(t, err, "the first connection starts the service")
	underLoad(t, func() { m.Must("reload", unit) })
	r, err := load.New(load.Workload{Kind: load.Hello, Addr: server, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond})
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	m.Must("restart", unit)
	tally := r.Stop()
	require.NoError(t, tally.Err(), "the socket is systemd's")
	t.Logf("new connections through a restart: sent %d, failed 0", tally.Total().Sent)
	m.Must("stop", "holdfast.socket", unit)

	// A Unix socket in the service's own directory: a stop must not remove it, for systemd
	// still has it.
	path := filepath.Join(m.RuntimeDir(), "holdfast", "http")
	settings[len(settings)-1] = "unix:" + path
	put(unit)
	put("holdfast.socket", "--socket")
	m.Must("start", "holdfast.socket")
	for range 2 {
		requestOver(t, path)
		m.Must("stop", unit)
	}
	m.Must("stop", "holdfast.socket")
}

// requestOver asks over a Unix socket.
func requestOver(t *testing.T, path string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = c.Write([]byte("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

// TestWordsArrive has systemd itself read what is hard to write.
func TestWordsArrive(t *testing.T) {
	m := systemdtest.Enter(t, func(string) {})
	if m == nil {
		return
	}
	dir := filepath.Join(m.Dir, "5% a $HOME $$b;#")
	require.NoError(t, os.Mkdir(dir, 0o755))
	args := []string{
		"", " ", "a b", "5% %n %%", "$HOME ${HOME} $$ $", `"quoted" 'too'`, `back\slash \n \`, "tab\tline\nreturn\r", ";", "#", "ü€", "\x01\x7f", "-x=$y", "~", "@a", "{", "\\x41",
	}
	u := systemd.Unit{Name: "words", User: true, Binary: script(t, filepath.Join(dir, "show"), `printf '%s\0' "$@" >"$0.args"`), Args: args, PIDFile: filepath.Join(dir, "a.pid"), StateDir: dir}
	text, err := u.Service()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(m.Dir, "units", "words.service"), []byte(text), 0o600))
	m.Must("daemon-reload")
	_, err = m.Systemctl("start", "words.service")
	require.Error(t, err, "it is no service")
	m.Must("stop", "words.service")
	b, err := os.ReadFile(filepath.Join(dir, "show.args"))
	require.NoError(t, err, m.Log())
	want := append([]string{"serve", "--pid-file", u.PIDFile, "--state-dir", u.StateDir}, args...)
	require.Equal(t, want, strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"))
	require.Equal(t, u.PIDFile, m.Show("words.service", "PIDFile"))
}
