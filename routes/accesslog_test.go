package routes

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestAccessLog(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log, Ready: func() error { return errors.New("draining") }})
	r.GET("/orders/:id", func(c *gin.Context) { c.Status(http.StatusNoContent) })
	r.GET("/broken", func(c *gin.Context) { Fail(c, 502, "broken", "broken") })
	for _, tc := range []struct {
		method, target, path, route, level string
		status, bytes                      int
	}{
		{"GET", "/?token=hunter2", "/", "/", "info", 200, 2},
		{"HEAD", "/", "/", "/", "info", 200, 0},
		{"GET", "/orders/17", "/orders/17", "/orders/:id", "info", 204, 0},
		{"GET", "/nothing", "/nothing", "", "warn", 404, -1},
		{"GET", "/broken", "/broken", "/broken", "error", 502, -1},
		{"GET", "/readyz", "/readyz", "/readyz", "warn", 503, -1},
		{"GET", "/health", "/health", "/health", "warn", 503, -1},
		{"GET", "/" + strings.Repeat("x", 5000), "/" + strings.Repeat("x", 1023) + "…", "", "warn", 404, -1},
	} {
		t.Run(tc.method+" "+clip(tc.target, 20), func(t *testing.T) {
			req := httptest.NewRequest(tc.method, tc.target, nil)
			req.Header.Set("Authorization", "Bearer hunter2")
			req.Header.Set("X-Forwarded-For", "198.51.100.1")
			w := serveOne(r, req)
			got := lines.next(t, "request")
			if tc.bytes < 0 {
				tc.bytes = w.Body.Len()
			}
			require.IsType(t, float64(0), got["duration_ms"])
			delete(got, "duration_ms")
			require.Equal(t, map[string]any{
				"level": tc.level, "message": "request", "request_id": w.Header().Get("X-Request-Id"),
				"method": tc.method, "path": tc.path, "route": tc.route,
				"status": float64(tc.status), "bytes": float64(tc.bytes), "peer": req.RemoteAddr,
			}, got, "no more than these: neither the query nor the token")
			require.Empty(t, lines, "one line")
		})
	}
}

func TestLoggerCarriesTheID(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log})
	r.GET("/x", func(c *gin.Context) {
		l := Logger(c)
		l.Info().Msg("from the handler")
	})
	req := httptest.NewRequest("GET", "/x", nil)
	req.Header.Set("X-Request-Id", "abc")
	serveOne(r, req)
	require.Equal(t, "abc", lines.next(t, "from the handler")["request_id"])

	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	l := Logger(c)
	l.Info().Msg("without the middleware") // goes nowhere, and does not panic
	require.Empty(t, RequestID(c))
}

func BenchmarkEngine(b *testing.B) {
	r := New(Deps{Log: zerolog.New(io.Discard), Identify: true})
	req := httptest.NewRequest("GET", "/", nil)
	b.ReportAllocs()
	for b.Loop() {
		serveOne(r, req)
	}
}

// What the process asks itself is no request of anybody's.
func TestTheProcessesOwnRequestsAreNotLogged(t *testing.T) {
	g := newGeneration(t, Deps{})
	require.NoError(t, g.Ask(t.Context(), g.ln, "/livez"))
	require.NoError(t, g.Ask(t.Context(), g.ln, "/nowhere"))
	c, err := net.Dial("tcp", g.ln.Addr().String())
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	_, err = io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "/", g.lines.next(t, "request")["path"])
}
