package routes

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

func TestPanicIsAnswered(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log, Identify: true, PID: 7})
	r.GET("/panic", func(c *gin.Context) {
		c.Header("Content-Length", "7") // of the answer that never came
		c.Header("Content-Encoding", "gzip")
		panic("no such luck")
	})
	r.GET("/nil", func(*gin.Context) { panic(fmt.Errorf("wrapped: %w", errors.New("inner"))) })
	srv := start(t, r)

	a := do(t, srv, "GET", "/panic", "")
	requireError(t, a, 500, "internal")
	require.Equal(t, "7", a.header.Get("X-Pid"))
	require.NotContains(t, a.body, "luck", "what broke is not the client's to know")

	got := lines.next(t, "panic in handler")
	require.Equal(t, "error", got["level"])
	require.Equal(t, "no such luck", got["panic"])
	require.Equal(t, a.header.Get("X-Request-Id"), got["request_id"])
	require.Contains(t, got["stack"], "recovery_test.go")
	require.EqualValues(t, 500, lines.next(t, "request")["status"])

	requireError(t, do(t, srv, "GET", "/nil", ""), 500, "internal")
}

// Half an answer must not end in good order.
func TestPanicAfterTheFirstByteCutsTheConnection(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log})
	r.GET("/half", func(c *gin.Context) {
		_, _ = c.Writer.WriteString("half of i")
		c.Writer.Flush()
		panic("no such luck")
	})
	srv := start(t, r)
	resp, err := srv.Client().Get(srv.URL + "/half")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b := make([]byte, 100)
	n := 0
	for err == nil {
		var m int
		m, err = resp.Body.Read(b[n:])
		n += m
	}
	require.Equal(t, "half of i", string(b[:n]))
	require.ErrorContains(t, err, "unexpected EOF")
	lines.next(t, "panic in handler")
	require.Equal(t, true, lines.next(t, "request")["aborted"])
}

func TestAbortHandlerPassesThrough(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log})
	r.GET("/abort", func(*gin.Context) { panic(http.ErrAbortHandler) })
	require.PanicsWithValue(t, http.ErrAbortHandler, func() {
		serveOne(r, httptest.NewRequest("GET", "/abort", nil))
	})
	got := lines.next(t, "request")
	require.Equal(t, "error", got["level"])
	require.EqualValues(t, 500, got["status"])
	require.Equal(t, true, got["aborted"])
	require.Empty(t, lines, "no stack for what net/http calls silent")
}

func TestBrokenPipeIsAClientThatLeft(t *testing.T) {
	broken := &net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}
	for name, handler := range map[string]gin.HandlerFunc{
		"panic": func(*gin.Context) { panic(broken) },
		"error": func(c *gin.Context) { _ = c.Error(broken) },
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := newLog()
			r := New(Deps{Log: log})
			r.GET("/pipe", handler)
			serveOne(r, httptest.NewRequest("GET", "/pipe", nil))
			got := lines.next(t, "request")
			require.EqualValues(t, StatusClientGone, got["status"])
			require.Equal(t, "info", got["level"])
			require.Empty(t, lines)
		})
	}
}

type panicCounter struct {
	http.ResponseWriter
	n int
}

func (p *panicCounter) MarkPanic() { p.n++ }

func TestAPanicIsCountedBelow(t *testing.T) {
	r := New(Deps{})
	r.GET("/panic", func(*gin.Context) { panic("as asked") })
	w := &panicCounter{ResponseWriter: httptest.NewRecorder()}
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/panic", nil))
	require.Equal(t, 1, w.n)
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, 1, w.n)
}
