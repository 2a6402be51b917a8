package cli

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// probe runs the command and returns what it prints.
func probe(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var c struct {
		Probe Probe `cmd:""`
	}
	k, err := kong.New(&c, kong.DefaultEnvars("HOLDFAST"), kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	var out bytes.Buffer
	ctx, err := k.Parse(append([]string{"probe"}, args...))
	require.NoError(t, err)
	ctx.BindTo(&out, (*io.Writer)(nil))
	err = ctx.Run()
	return out.String(), err
}

// front is a service that is ready, and is not asked for anything else.
func front(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/readyz" {
		http.Error(w, "draining", http.StatusServiceUnavailable)
	}
}

func TestProbe(t *testing.T) {
	plain, secure := httptest.NewServer(http.HandlerFunc(front)), httptest.NewTLSServer(http.HandlerFunc(front))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	unix := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(front)}}
	unix.Start()
	t.Cleanup(unix.Close)
	at := plain.Listener.Addr().String()
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)

	for _, args := range [][]string{
		{"--addr", at},
		{"--addr", ":" + port},
		{"--addr", "0.0.0.0:" + port},
		{"--addr", "public=" + at, "--addr", "127.0.0.1:1"},
		{"--addr", "unix:" + path},
		{"--addr", at, "http /readyz status=200 within=2s"},
		{"--addr", "127.0.0.1:1", "http /readyz at=" + at},
		{"tcp " + at},
		{"--addr", secure.Listener.Addr().String(), "--tls-cert", "as-served.pem"},
	} {
		out, err := probe(t, args...)
		require.NoError(t, err, args)
		require.Regexp(t, `^(http GET|tcp) .*: passed after \S+s\n$`, out, args)
	}

	conf := filepath.Join(t.TempDir(), "app.yml")
	require.NoError(t, os.WriteFile(conf, []byte("addr: "+at+"\ndrain-timeout: 3s\n"), 0o600))
	out, err := probe(t, "--config", conf)
	require.NoError(t, err)
	require.Contains(t, out, "at="+at)

	t.Setenv("HOLDFAST_ADDR", at) // as the service was told
	out, err = probe(t)
	require.NoError(t, err)
	require.Contains(t, out, "http GET /readyz at="+at+" timeout=2s: passed")
	_, err = probe(t, "http /orders")
	require.EqualError(t, err, "http GET /orders at="+at+": status 503, want 200..399: draining")
	_, err = probe(t, "http /readyz status=204")
	require.ErrorContains(t, err, "status 200, want 204")

	plain.Close()
	_, err = probe(t)
	require.ErrorContains(t, err, "connection refused")
	_, err = probe(t, "--addr", secure.Listener.Addr().String())
	require.ErrorContains(t, err, "status 400, want 200..399: Client sent an HTTP request to an HTTPS server")
	_, err = probe(t, "--addr", "nonsense")
	require.ErrorContains(t, err, "want HOST:PORT")
}

// A service that hangs is not healthy, and the asker does not hang with it.
func TestProbeOfAServiceThatHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	require.NoError(t, err)
	defer ln.Close()
	_, err = probe(t, "--addr", ln.Addr().String(), "http /readyz timeout=50ms")
	require.ErrorContains(t, err, "no answer within 50 ms")
}
