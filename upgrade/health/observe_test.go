package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeConn is what net/http's HTTP/1 writer can do, without a connection.
type fakeConn struct {
	header http.Header
	status int
}

func (f *fakeConn) Header() http.Header                          { return f.header }
func (f *fakeConn) WriteHeader(status int)                       { f.status = status }
func (f *fakeConn) Write(b []byte) (int, error)                  { return len(b), nil }
func (f *fakeConn) WriteString(s string) (int, error)            { return len(s), nil }
func (f *fakeConn) Flush()                                       {}
func (f *fakeConn) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }
func (f *fakeConn) ReadFrom(r io.Reader) (int64, error)          { return io.Copy(io.Discard, r) }
func (f *fakeConn) CloseNotify() <-chan bool                     { return nil }

// one lets a handler answer one request within a bubble, and gives what was counted.
func one(t *testing.T, h func(http.ResponseWriter, *http.Request)) (s Snapshot, panicked any) {
	t.Helper()
	w := NewWindow(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(context.WithValue(ctx, cancelKey{}, cancel), http.MethodGet, "/", nil)
	func() {
		defer func() { panicked = recover() }()
		w.Handler(http.HandlerFunc(h)).ServeHTTP(&fakeConn{header: http.Header{}}, r)
	}()
	return w.Snapshot(time.Hour), panicked
}

type cancelKey struct{}

// leave has the client of a request leave.
func leave(r *http.Request) { r.Context().Value(cancelKey{}).(context.CancelFunc)() }

func TestHandlerCounts(t *testing.T) {
	kaput := errors.New("kaput")
	for _, tt := range []struct {
		name    string
		h       func(http.ResponseWriter, *http.Request)
		latency time.Duration
		success bool
		panics  int
		passed  any // the panic that goes on
	}{
		{"silent", func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second) }, time.Second, true, 0, nil},
		{"404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, 0, true, 0, nil},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 0, false, 0, nil},
		{"early hints", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(503) }, 0, false, 0, nil},
		{"too late", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a"); w.WriteHeader(503) }, 0, true, 0, nil},
		{"header, then work", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			_, _ = io.WriteString(w, "a")
			time.Sleep(time.Second)
		}, time.Second, true, 0, nil},
		{"flush", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.(http.Flusher).Flush()
			time.Sleep(time.Minute)
		}, time.Second, true, 0, nil},
		{"controller", func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Minute)
		}, 0, true, 0, nil},
		{"large", func(w http.ResponseWriter, _ *http.Request) {
			for range 5 {
				time.Sleep(time.Second)
				_, _ = w.Write(make([]byte, 1000))
			}
			time.Sleep(time.Minute)
		}, 5 * time.Second, true, 0, nil},
		{"file", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("a"))
			time.Sleep(time.Minute)
		}, 0, true, 0, nil},
		{"hijack", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _, _ = w.(http.Hijacker).Hijack()
			time.Sleep(time.Minute)
		}, time.Second, true, 0, nil},
		{"panic", func(http.ResponseWriter, *http.Request) { time.Sleep(time.Second); panic(kaput) }, time.Second, false, 1, kaput},
		{"panic of a stream", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			time.Sleep(time.Second)
			panic(kaput)
		}, 0, false, 1, kaput},
		{"panic after 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); panic(kaput) }, 0, false, 1, kaput},
		{"recovered", func(w http.ResponseWriter, _ *http.Request) { MarkPanic(w); w.WriteHeader(500) }, 0, false, 1, nil},
		{"abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0, false, 0, http.ErrAbortHandler},
		{"client gone, abort", func(_ http.ResponseWriter, r *http.Request) { leave(r); panic(http.ErrAbortHandler) }, 0, true, 0, http.ErrAbortHandler},
		{"client gone, 500", func(w http.ResponseWriter, r *http.Request) { leave(r); w.WriteHeader(500) }, 0, true, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, panicked := one(t, tt.h)
				assert.EqualValues(t, 1, s.Requests)
				assert.Equal(t, tt.success, s.Successes == 1)
				assert.EqualValues(t, tt.panics, s.Panics)
				assert.InDelta(t, tt.latency, s.P99, float64(tt.latency)/32+500)
				assert.Equal(t, tt.passed, panicked)
			})
		})
	}
}

// A stream is counted when it begins: its end may be hours away.
func TestHandlerCountsStreamsAtOnce(t *testing.T) {
	w := NewWindow(0)
	h := w.Handler(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		assert.Zero(t, w.Snapshot(time.Minute).Requests)
		rw.(http.Flusher).Flush()
		assert.EqualValues(t, 1, w.Snapshot(time.Minute).Requests)
	}))
	h.ServeHTTP(&fakeConn{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.EqualValues(t, 1, w.Snapshot(time.Minute).Requests)
}

func TestHandlerSkipsProbes(t *testing.T) {
	w := NewWindow(0)
	h := w.Handler(app())
	assert.NoError(t, mustProbe(t, "http GET /ok").Run(t.Context(), h))
	assert.EqualError(t, mustProbe(t, "http GET /panic").Run(t.Context(), h), "panic: kaput here")
	assert.Zero(t, w.Snapshot(time.Minute).Requests)
}

func TestHandlerGoexit(t *testing.T) {
	w := NewWindow(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Handler(app()).ServeHTTP(&fakeConn{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/exit", nil))
	}()
	<-done
	s := w.Snapshot(time.Minute)
	assert.EqualValues(t, 1, s.Requests)
	assert.Zero(t, s.Successes)
	assert.Zero(t, s.Panics)
}

// What a handler sees of the writer is the same with and without.
func TestHandlerKeepsInterfaces(t *testing.T) {
	can := func(w http.ResponseWriter) string {
		_, flusher := w.(http.Flusher)
		_, hijacker := w.(http.Hijacker)
		_, readerFrom := w.(io.ReaderFrom)
		_, stringWriter := w.(io.StringWriter)
		_, pusher := w.(http.Pusher)
		_, notifier := w.(http.CloseNotifier) //nolint:staticcheck // Gin needs it
		rc := http.NewResponseController(w)
		return fmt.Sprint(flusher, hijacker, readerFrom, stringWriter, pusher, notifier,
			rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}), rc.EnableFullDuplex(), rc.Flush())
	}
	report := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Can", can(w))
		fmt.Fprint(w, r.Proto, " ", can(w))
	})
	w := NewWindow(0)
	for _, http2 := range []bool{false, true} {
		var got [2]string
		for i, h := range []http.Handler{report, w.Handler(report)} {
			srv := httptest.NewUnstartedServer(h)
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			res, err := srv.Client().Get(srv.URL)
			require.NoError(t, err)
			b, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			res.Body.Close()
			srv.Close()
			got[i] = string(b)
		}
		assert.Equal(t, got[0], got[1])
		assert.Equal(t, http2, strings.HasPrefix(got[0], "HTTP/2"), got[0])
	}
	assert.EqualValues(t, 2, w.Snapshot(time.Minute).Requests)
}

// Gin on top of it: a stream, which needs http.CloseNotifier; a hijack; a file by
// sendfile's way; a panic that Gin's recovery hides and MarkPanic shows.
func TestHandlerOfGin(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(func(c *gin.Context) {
		defer func() {
			if recover() != nil {
				assert.True(t, MarkPanic(c.Writer))
				c.AbortWithStatus(500)
			}
		}()
		c.Next()
	})
	r.GET("/stream", func(c *gin.Context) {
		n := 0
		c.Stream(func(w io.Writer) bool { n++; fmt.Fprint(w, n); return n < 3 })
	})
	r.GET("/hijack", func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if assert.NoError(t, err) {
			fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			conn.Close()
		}
	})
	r.GET("/panic", func(*gin.Context) { panic("kaput") })
	r.GET("/file", func(c *gin.Context) { c.File("observe_test.go") })
	w := NewWindow(0)
	srv := httptest.NewServer(w.Handler(r))
	defer srv.Close()
	self, err := os.ReadFile("observe_test.go")
	require.NoError(t, err)
	for path, want := range map[string]string{"/stream": "123", "/hijack": "", "/panic": "", "/file": string(self)} {
		res, err := srv.Client().Get(srv.URL + path)
		require.NoError(t, err)
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		assert.Equal(t, want, string(b), path)
	}
	srv.Close()
	s := w.Snapshot(time.Minute)
	assert.EqualValues(t, 4, s.Requests)
	assert.EqualValues(t, 3, s.Successes)
	assert.EqualValues(t, 1, s.Panics)
	assert.False(t, MarkPanic(&fakeConn{}))
}

// net/http's log of a panic has the handler's frames, although it was caught between.
func TestHandlerKeepsTheStack(t *testing.T) {
	var text strings.Builder
	srv := httptest.NewUnstartedServer(NewWindow(0).Handler(http.HandlerFunc(breaks)))
	srv.Config.ErrorLog = log.New(&text, "", 0)
	srv.Start()
	_, err := srv.Client().Get(srv.URL) //nolint:bodyclose // there is none
	require.Error(t, err)
	srv.Close()
	assert.Contains(t, text.String(), "health.breaks(")
}

func breaks(http.ResponseWriter, *http.Request) { panic("kaput") }

func BenchmarkHandler(b *testing.B) {
	body := []byte("hello")
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) { _, _ = c.Writer.Write(body) })
	for _, h := range []struct {
		name string
		http.Handler
	}{{"plain", plain}, {"gin", engine}} {
		for _, m := range []struct {
			name string
			http.Handler
		}{{"bare", h.Handler}, {"measured", NewWindow(0).Handler(h.Handler)}} {
			b.Run(h.name+"/"+m.name, func(b *testing.B) {
				w, r := &fakeConn{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)
				b.ReportAllocs()
				for b.Loop() {
					m.ServeHTTP(w, r)
				}
			})
			b.Run(h.name+"/"+m.name+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					w, r := &fakeConn{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)
					for pb.Next() {
						m.ServeHTTP(w, r)
					}
				})
			})
		}
	}
}

// Over a real connection, with everything that net/http does for a request.
func BenchmarkServer(b *testing.B) {
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	for _, m := range []struct {
		name string
		http.Handler
	}{{"bare", plain}, {"measured", NewWindow(0).Handler(plain)}} {
		b.Run(m.name, func(b *testing.B) {
			srv := httptest.NewServer(m)
			defer srv.Close()
			c, err := net.Dial("tcp", srv.Listener.Addr().String())
			require.NoError(b, err)
			defer c.Close()
			br, buf := bufio.NewReader(c), make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				for n := 0; ; { // one answer, which ends with its body
					k, err := br.Read(buf[n:])
					if err != nil {
						b.Fatal(err)
					}
					if n += k; strings.HasSuffix(string(buf[:n]), "hello") {
						break
					}
				}
			}
		})
	}
}

func TestHandlerDoesNotAllocate(t *testing.T) {
	plain := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	w, r := &fakeConn{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/", nil)
	h := NewWindow(0).Handler(plain)
	runtime.GC()
	if n := testing.AllocsPerRun(2000, func() { h.ServeHTTP(w, r) }); n > 0 {
		t.Errorf("%v allocations for a request", n)
	}
}
