package unit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// printed runs the command and returns what it says on both streams.
func printed(t *testing.T, args ...string) (string, string, error) {
	t.Helper()
	var all struct {
		Unit Command `cmd:""`
	}
	var out, warned bytes.Buffer
	k, err := kong.New(&all, kong.DefaultEnvars("HOLDFAST"), kong.Writers(&out, &warned))
	require.NoError(t, err)
	ctx, err := k.Parse(append([]string{"unit"}, args...))
	if err != nil {
		return "", "", err
	}
	c := &all.Unit
	err = c.Run(ctx, &out)
	return out.String(), warned.String(), err
}

// value is what a unit says for a key.
func value(text, key string) string {
	_, rest, _ := strings.Cut(text, "\n"+key+"=")
	line, _, _ := strings.Cut(rest, "\n")
	return line
}

// TestGivenSettings: flags and environment are written into the unit, those of the
// file stay there, and all of them decide what the unit needs.
func TestGivenSettings(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	t.Chdir(dir)
	require.NoError(t, os.WriteFile("c.yml", []byte("addr: ':80'\ndrain-timeout: 1m\nidentify: true\npid-file: /run/app/a.pid\nprobation: 20m\nrule: panics <= 0\n"), 0o600))
	t.Setenv("HOLDFAST_LOG_LEVEL", "warn")
	t.Setenv("HOLDFAST_NAME", "nonsense") // such names are everybody's
	text, _, err := printed(t, "--binary", "/opt/x", "--config", "c.yml", "--tls-cert", "c.pem", "--tls-key", "k.pem", "--stop-linger", "2s")
	require.NoError(t, err)
	require.Equal(t, "/opt/x serve --pid-file %t/app/a.pid --state-dir %S/holdfast --tls-cert "+dir+"/c.pem --tls-key "+dir+
		"/k.pem --stop-linger 2s --log-level warn --config "+dir+"/c.yml", value(text, "ExecStart"))
	require.Equal(t, "75s", value(text, "TimeoutStopSec"))
	require.Equal(t, "1335s", value(text, "TimeoutStartSec"))
	require.Contains(t, text, "wait --timeout 1335s ")
	require.Equal(t, "CAP_NET_BIND_SERVICE", value(text, "AmbientCapabilities"))
	require.Equal(t, "/run/app/a.pid", "/run/"+value(text, "RuntimeDirectory")+"/a.pid")

	// The name of the listener is that of a server with a certificate.
	text, _, err = printed(t, "--socket", "--config", "c.yml", "--tls-cert", "c.pem", "--tls-key", "k.pem")
	require.NoError(t, err)
	require.Equal(t, "80", value(text, "ListenStream"))
	require.Equal(t, "https", value(text, "FileDescriptorName"))

	text, _, err = printed(t, "--socket=b", "--user", "--addr", "a=:81", "--addr", "b=:82", "--name", "web")
	require.NoError(t, err)
	require.Equal(t, "82", value(text, "ListenStream"))
	require.Equal(t, "web.service", value(text, "Service"))
	_, _, err = printed(t, "--socket", "--addr", "a=:81,b=:82")
	require.ErrorContains(t, err, "--socket=a, --socket=b")
	_, _, err = printed(t, "--name", "a b")
	require.ErrorContains(t, err, "the name")
	_, _, err = printed(t, "--addr", "nonsense")
	require.ErrorContains(t, err, "want HOST:PORT")
}

// TestUsersPlaces: what the user's manager calls %t is known from the environment.
func TestUsersPlaces(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/me")
	text, _, err := printed(t, "--user", "--pid-file", "/run/me/app/a.pid", "--addr", "unix:/run/me/app/s")
	require.NoError(t, err)
	require.Equal(t, "%t/app/a.pid", value(text, "PIDFile"))
	require.Equal(t, "app", value(text, "RuntimeDirectory"))
	require.Equal(t, "yes", value(text, "RuntimeDirectoryPreserve"))
	text, _, err = printed(t, "--user", "--socket", "--addr", "unix:/run/me/app/s")
	require.NoError(t, err)
	require.Equal(t, "%t/app/s", value(text, "ListenStream"))
}

// TestTheProgram: by the name it was called, unless that is not it.
func TestTheProgram(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	called := os.Args[0]
	t.Cleanup(func() { os.Args[0] = called })
	link := filepath.Join(t.TempDir(), "current")
	require.NoError(t, os.Symlink(self, link))
	for arg, want := range map[string]string{link: link, "/bin/true": self, "no such program": self} {
		os.Args[0] = arg
		got, err := program("")
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	got, err := program("/opt/x/../y")
	require.NoError(t, err)
	require.Equal(t, "/opt/y", got)
}

// TestWarningsAreNoUnit: they go to the other stream, a line each.
func TestWarningsAreNoUnit(t *testing.T) {
	text, warned, err := printed(t, "--binary", "/tmp/x", "--name", "nosuchuser", "--config", "/dev/null")
	require.NoError(t, err)
	require.NotContains(t, text, "warning")
	for line := range strings.Lines(warned) {
		require.True(t, strings.HasPrefix(line, "holdfast: warning: "), line)
	}
	require.Equal(t, 2, strings.Count(warned, "\n"))
}
