package routes

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

func TestRequestTimeout(t *testing.T) {
	for _, tc := range []struct {
		name, target string
		status       int
		took         time.Duration
	}{
		{"in time", "/slow?ms=4999", 200, 4999 * time.Millisecond},
		{"too slow", "/slow?ms=60000", 503, 5 * time.Second},
		{"a stream may last", "/stream?ms=20000", 200, 20 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, lines := newLog()
				r := New(Deps{Log: log, RequestTimeout: 5 * time.Second})
				start := time.Now()
				w := serveOne(r, httptest.NewRequest("GET", tc.target, nil))
				require.Equal(t, tc.took, time.Since(start))
				require.Equal(t, tc.status, w.Code)
				if tc.status == 503 {
					requireError(t, answer{w.Code, w.Header(), w.Body.String()}, 503, "timeout")
				}
				got := lines.next(t, "request")
				require.EqualValues(t, tc.status, got["status"])
				require.EqualValues(t, tc.took.Milliseconds(), got["duration_ms"])
			})
		})
	}
}

// The context's first reason to end is the one that counts.
func TestContextEnds(t *testing.T) {
	type key struct{}
	parent := errors.New("server is gone")
	for _, tc := range []struct {
		name   string
		cancel error
		work   gin.HandlerFunc
		status int // logged
		code   string
		aborts bool
	}{
		{"client leaves", context.Canceled, func(c *gin.Context) { <-c.Request.Context().Done() }, 499, "client_gone", false},
		{"server's own reason", parent, func(c *gin.Context) { <-c.Request.Context().Done() }, 503, "stopping", false},
		{"client leaves, handler says 500", context.Canceled, func(c *gin.Context) {
			<-c.Request.Context().Done()
			Fail(c, 500, "database", "context canceled")
		}, 499, "database", false},
		{"client leaves when it has its answer", context.Canceled, func(c *gin.Context) {
			c.String(200, "all of it")
			<-c.Request.Context().Done()
		}, 200, "", false},
		{"client leaves halfway", context.Canceled, func(c *gin.Context) {
			c.String(200, "half of i")
			<-c.Request.Context().Done()
			_ = c.Error(c.Request.Context().Err())
		}, 499, "", true},
		{"client leaves after its time was up", nil, func(c *gin.Context) {
			<-c.Request.Context().Done()
			c.Request.Context().Value(key{}).(context.CancelCauseFunc)(context.Canceled)
		}, 503, "timeout", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, lines := newLog()
				r := New(Deps{Log: log, RequestTimeout: time.Minute})
				r.GET("/work", tc.work)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				ctx = context.WithValue(ctx, key{}, cancel)
				if tc.cancel != nil {
					time.AfterFunc(time.Second, func() { cancel(tc.cancel) })
				}
				w := httptest.NewRecorder()
				serve := func() { r.ServeHTTP(w, httptest.NewRequest("GET", "/work", nil).WithContext(ctx)) }
				if tc.aborts {
					require.PanicsWithValue(t, http.ErrAbortHandler, serve)
				} else {
					serve()
				}
				require.EqualValues(t, tc.status, lines.next(t, "request")["status"])
				if tc.code != "" {
					requireError(t, answer{w.Code, w.Header(), w.Body.String()}, w.Code, tc.code)
				}
			})
		})
	}
}

// With a real connection: the work stops because the client closed it.
func TestClientGoneStopsTheWork(t *testing.T) {
	for _, target := range []string{"/slow?ms=600000", "/stream?ms=600000"} {
		t.Run(target, func(t *testing.T) {
			log, lines := newLog()
			srv := start(t, New(Deps{Log: log}))
			conn := dial(t, srv)
			_, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: x\r\n\r\n")
			require.NoError(t, err)
			if strings.HasPrefix(target, "/stream") {
				_, err = bufio.NewReader(conn).ReadString('\n') // it has begun
				require.NoError(t, err)
			}
			require.NoError(t, conn.Close())
			got := lines.next(t, "request")
			require.EqualValues(t, StatusClientGone, got["status"])
			require.Equal(t, "info", got["level"])
		})
	}
}

// A client that only closes its sending half reads a 499, not an empty 200.
func TestHalfClosedClientGetsNoEmpty200(t *testing.T) {
	srv := start(t, New(Deps{}))
	conn := dial(t, srv)
	_, err := io.WriteString(conn, "GET /slow?ms=600000 HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, StatusClientGone, resp.StatusCode)
}

func TestBodyThatDoesNotArrive(t *testing.T) {
	for name, tc := range map[string]struct {
		request string
		hangUp  bool
		status  int
		code    string
	}{
		"too late":             {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", false, 408, "body_timeout"},
		"too late, in chunks":  {"POST /orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false, 408, "body_timeout"},
		"never":                {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", true, 499, "client_gone"},
		"never, of an upload":  {"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", true, 499, "client_gone"},
		"chunks that are none": {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false, 400, "body_unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := newLog()
			deps := Deps{Log: log}
			if tc.status == 408 {
				deps.RequestTimeout = 20 * time.Millisecond
			}
			srv := start(t, New(deps))
			conn := dial(t, srv)
			_, err := io.WriteString(conn, tc.request)
			require.NoError(t, err)
			if tc.hangUp {
				require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			requireError(t, answer{resp.StatusCode, resp.Header, string(body)}, tc.status, tc.code)
			require.True(t, tc.hangUp || resp.Close, "the rest of the body is in the way of the next request")
			require.EqualValues(t, tc.status, lines.next(t, "request")["status"])
		})
	}
}

// The read deadline that ends a late body must not outlive it.
func TestKeepAliveAfterTimedBody(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log, RequestTimeout: 50 * time.Millisecond})
	r.POST("/late", func(c *gin.Context) {
		_, _ = io.ReadAll(c.Request.Body)
		<-c.Request.Context().Done() // past the deadline, body long read
	})
	srv := start(t, r)
	conn := dial(t, srv)
	rd := bufio.NewReader(conn)
	for _, path := range []string{"/late", "/echo", "/late", "/echo"} {
		_, err := io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
		require.NoError(t, err)
		resp, err := http.ReadResponse(rd, nil)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		want := map[string]int{"/late": 503, "/echo": 200}[path]
		require.Equal(t, want, resp.StatusCode)
		require.False(t, resp.Close)
		require.EqualValues(t, want, lines.next(t, "request")["status"])
	}
}

func dial(t *testing.T, srv *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	return conn
}
