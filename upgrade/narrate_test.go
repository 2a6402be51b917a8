package upgrade

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/systemd"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

func TestServingStatus(t *testing.T) {
	p := &Process{generation: 3, cfg: Config{Build: "v7"}}
	require.Equal(t, "serving, generation 3, build v7", p.serving())
	p.draining.Store(&report.Predecessor{PID: 1, Generation: 2})
	require.Equal(t, "serving, generation 3, build v7; generation 2 still drains", p.serving(), "it has said nothing yet")
	p.draining.Store(&report.Predecessor{PID: 1, Generation: 2, Connections: &report.Connections{Open: 12, Requests: 1}})
	require.Equal(t, "serving, generation 3, build v7; generation 2 still drains 12 connections, 1 request", p.serving())

	require.Equal(t, "upgrading to generation 3, build v7: ", p.coming())
	p.generation = 1
	require.Equal(t, "starting: ", p.coming())
}

// A phase asks for time while it is within its bound, and no longer.
func TestNarration(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd") // t.TempDir is too long for a socket's name on darwin
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	hear := func() string {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		b := make([]byte, 4096)
		n, err := conn.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", path)
	p := &Process{generation: 2, cfg: Config{Build: "v2"}, manager: systemd.New()}

	n := p.narrate("gate", time.Minute, true)
	require.Regexp(t, `^EXTEND_TIMEOUT_USEC=15000000\nSTATUS=upgrading to generation 2, build v2: gate, (1m0|59)s left$`, hear())
	n.says("round 1 passed")
	require.Regexp(t, `^EXTEND_TIMEOUT_USEC=15000000\nSTATUS=upgrading to generation 2, build v2: gate, 5\ds left: round 1 passed$`, hear())
	n.end()

	n = p.narrate("takeover", 500*time.Millisecond, false)
	require.True(t, strings.HasPrefix(hear(), "EXTEND_TIMEOUT_USEC=5"), "what is left, and a little more")
	n.says("late")
	require.Equal(t, "STATUS=upgrading to generation 2, build v2: takeover: late", hear())
	n.end()

	p.manager = &systemd.Notifier{}
	n = p.narrate("nobody hears", time.Minute, true)
	n.says("nothing")
	n.end()
}

// The self-check is no traffic to be judged by.
func TestTheSelfCheckIsNotCounted(t *testing.T) {
	var counted, plain int
	h := exceptOwn(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counted++ }),
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain++ }),
	)
	set := handoff.NewSet(nowhere{}, nil, handoff.BindOptions{})
	lns, err := set.Listen(handoff.Address{Name: "http", Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	s, err := handoff.NewServer(&http.Server{Handler: h})
	require.NoError(t, err)
	s.Start(lns[0], func(error) {})
	require.NoError(t, s.Ask(t.Context(), lns[0], "/livez"))
	require.NoError(t, set.Close())
	s.Wait()
	require.Equal(t, 1, plain)
	require.Zero(t, counted)
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, 1, counted)
}

// nowhere inherits nothing.
type nowhere struct{}

func (nowhere) Listener(string, string) (net.Listener, error) { return nil, nil }
func (nowhere) ListenWithCallback(network, addr string, mk func(string, string) (net.Listener, error)) (net.Listener, error) {
	return mk(network, addr)
}

func TestWatchdogPath(t *testing.T) {
	for path, ok := range map[string]bool{"": true, "/livez": true, "/a?b=c": true, "livez": false, "/a b": false, "/a\r\nX: y": false, "/é": false} {
		_, err := Config{WatchdogPath: path}.withDefaults()
		require.Equal(t, ok, err == nil, path)
	}
}
