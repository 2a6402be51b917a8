package routes

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logLines receives each line of a log, so that a test can wait for one.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// next returns the next line with this message.
func (l logLines) next(t *testing.T, message string) map[string]any {
	t.Helper()
	bound := time.After(5 * time.Second)
	for {
		select {
		case line := <-l:
			require.Equal(t, 1, strings.Count(line, "\n"), "one line: %q", line)
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
			if fields["message"] == message {
				return fields
			}
		case <-bound:
			require.FailNow(t, "no log line", message)
		}
	}
}

func newLog() (zerolog.Logger, logLines) {
	lines := make(logLines, 256)
	return zerolog.New(lines), lines
}

// start serves r on a real socket.
func start(t *testing.T, r http.Handler) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(r)
	t.Cleanup(srv.Close)
	return srv
}

type answer struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, srv *httptest.Server, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := srv.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// serveOne runs one request through h without a network, as synctest needs it.
func serveOne(h http.Handler, req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// requireError checks the one error form, strictly, and returns what it holds.
func requireError(t *testing.T, a answer, status int, code string) errorDetail {
	t.Helper()
	require.Equal(t, status, a.status, a.body)
	require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
	var e errorBody
	dec := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&e), a.body)
	require.Equal(t, code, e.Error.Code)
	require.NotEmpty(t, e.Error.Message)
	require.NotEmpty(t, e.Error.RequestID)
	require.Equal(t, a.header.Get("X-Request-Id"), e.Error.RequestID)
	return e.Error
}

func TestNewLeavesChosenGinModeAlone(t *testing.T) {
	was := gin.Mode()
	defer gin.SetMode(was)
	gin.SetMode(gin.TestMode)
	New(Deps{})
	require.Equal(t, gin.TestMode, gin.Mode())

	t.Setenv(gin.EnvGinMode, "")
	gin.SetMode(gin.DebugMode)
	New(Deps{})
	require.Equal(t, gin.ReleaseMode, gin.Mode(), "debug mode prints to standard output")
}

func TestUnknownPathAndMethod(t *testing.T) {
	srv := start(t, New(Deps{Identify: true, PID: 7, Generation: 3}))
	for _, tc := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/nothing", 404, "not_found", ""},
		{"GET", "/livez/", 404, "not_found", ""}, // no redirect past the middleware
		{"POST", "/slow", 405, "method_not_allowed", "GET"},
		{"BREW", "/echo", 405, "method_not_allowed", "POST"},
		{"DELETE", "/livez", 405, "method_not_allowed", "GET, HEAD"},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			a := do(t, srv, tc.method, tc.path, "")
			requireError(t, a, tc.status, tc.code)
			require.Equal(t, tc.allow, a.header.Get("Allow"))
			require.Equal(t, "7", a.header.Get("X-Pid"))
			require.Equal(t, "3", a.header.Get("X-Generation"))
		})
	}
}

func TestIdentifyIsOffByDefault(t *testing.T) {
	a := do(t, start(t, New(Deps{})), "GET", "/", "")
	require.Empty(t, a.header.Values("X-Pid"))
	require.Empty(t, a.header.Values("X-Generation"))
}
