package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mustProbe parses a probe that is right.
func mustProbe(t testing.TB, s string) *Probe {
	t.Helper()
	p, err := ParseProbe(s)
	require.NoError(t, err)
	return p
}

func app() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ok", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App", "1")
		fmt.Fprintf(w, "fine, %s", r.UserAgent())
		w.Header().Set("X-Late", "1")
	})
	mux.HandleFunc("GET /moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("GET /bad", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no\ndatabase", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("kaput\nhere") })
	mux.HandleFunc("GET /exit", func(http.ResponseWriter, *http.Request) { runtime.Goexit() })
	mux.HandleFunc("GET /early", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /body", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	return mux
}

func TestHTTP(t *testing.T) {
	h := app()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	srv := &http.Server{Handler: h}
	done := make(chan error, 2)
	go func() { done <- srv.Serve(ln) }()
	go func() { done <- srv.Serve(unix) }()
	defer func() { _, _ = <-done, <-done }()
	defer srv.Close()

	for _, at := range []string{"", " at=" + ln.Addr().String(), " at=unix:" + unix.Addr().String()} {
		for probe, want := range map[string]string{
			"http /ok": "",
			`http /ok status=200 "body~fine, holdfast-probe" header:X-App=1`: "",
			"http /ok header:X-App=2":  `header X-App is "1", want "2"`,
			"http /ok header:X-Late=1": `header X-Late is "", want "1"`,
			"http /ok body~good":       `the body lacks "good": fine, holdfast-probe`,
			"http /ok status=201..299": "status 200, want 201..299: fine, holdfast-probe",
			"http /moved":              "",
			"http /moved status=302":   "",
			"http /bad":                "status 503, want 200..399: no database",
			"http /early status=204":   "",
			"http /none":               "status 404, want 200..399: 404 page not found",
			"http POST /body":          "",
			"http HEAD /ok":            "",
		} {
			err := mustProbe(t, probe+at).Run(t.Context(), h)
			if want == "" {
				assert.NoError(t, err, probe+at)
			} else {
				assert.EqualError(t, err, want, probe+at)
			}
		}
	}
	assert.EqualError(t, mustProbe(t, "http /panic").Run(t.Context(), h), "panic: kaput here")
	assert.EqualError(t, mustProbe(t, "http /exit").Run(t.Context(), h), "it ended its goroutine instead of answering")
	assert.ErrorContains(t, mustProbe(t, "http /").Run(t.Context(), nil), "there is no handler to ask")
}

// Gin asserts http.Hijacker and http.CloseNotifier on the writer below its own.
func TestHTTPOfGin(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.GET("/hijack", func(c *gin.Context) {
		if _, _, err := c.Writer.Hijack(); err != nil {
			panic(err) // Gin takes an answer after Hijack for written
		}
	})
	r.GET("/stream", func(c *gin.Context) {
		n := 0
		c.Stream(func(w io.Writer) bool { n++; fmt.Fprint(w, n); return n < 3 })
	})
	assert.NoError(t, mustProbe(t, "http /stream body~123").Run(t.Context(), r))
	assert.ErrorContains(t, mustProbe(t, "http /hijack").Run(t.Context(), r), "panic: health: a probe has no connection")
}

func TestProbeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(d time.Duration) Func {
			return func(context.Context) error { time.Sleep(d); return nil }
		}
		assert.NoError(t, (&Probe{Check: slow(time.Second), Within: time.Second}).Run(t.Context(), nil))
		assert.EqualError(t, (&Probe{Check: slow(230 * time.Millisecond), Within: 200 * time.Millisecond}).Run(t.Context(), nil), "took 230 ms, more than the 200 ms allowed")
		assert.NoError(t, (&Probe{Check: slow(9 * time.Second), Within: 10 * time.Second}).Run(t.Context(), nil))

		// It cannot be ended: it is asked again only when it has.
		p := &Probe{Check: slow(8 * time.Second)}
		assert.EqualError(t, p.Run(t.Context(), nil), "no answer within 5 s")
		assert.EqualError(t, p.Run(t.Context(), nil), "an earlier try, which was given up, still runs")
		time.Sleep(4 * time.Second)
		assert.EqualError(t, p.Run(t.Context(), nil), "no answer within 5 s")
		time.Sleep(4 * time.Second)

		cause := errors.New("called off")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		assert.ErrorIs(t, p.Run(ctx, nil), cause)
		time.Sleep(8 * time.Second)
	})
}

func TestFunc(t *testing.T) {
	p := &Probe{Name: "cache", Check: Func(func(context.Context) error { return errors.New(strings.Repeat("long ", 100)) })}
	err := p.Run(t.Context(), nil)
	assert.Less(t, len(err.Error()), maxReason+10)
	assert.Equal(t, "cache", p.String())
	sentinel := errors.New("short")
	p.Check = Func(func(context.Context) error { return fmt.Errorf("x: %w", sentinel) })
	assert.ErrorIs(t, p.Run(t.Context(), nil), sentinel)
}

func TestTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := mustProbe(t, "tcp "+ln.Addr().String())
	assert.NoError(t, p.Run(t.Context(), nil))
	ln.Close()
	assert.ErrorIs(t, p.Run(t.Context(), nil), syscall.ECONNREFUSED)
}

func TestExec(t *testing.T) {
	assert.NoError(t, mustProbe(t, "exec true").Run(t.Context(), nil))
	assert.EqualError(t, mustProbe(t, `exec sh -c 'echo first; echo "no disk" >&2; exit 3'`).Run(t.Context(), nil), "exit status 3: no disk")
	assert.EqualError(t, mustProbe(t, `exec sh -c 'yes | head -c 100000; echo; echo last; exit 1'`).Run(t.Context(), nil), "exit status 1: last")
	assert.ErrorContains(t, mustProbe(t, "exec /does/not/exist").Run(t.Context(), nil), "no such file")

	assert.EqualError(t, (&Probe{Check: &Exec{[]string{"sleep", "600"}}, Timeout: 100 * time.Millisecond}).Run(t.Context(), nil), "no answer within 100 ms")
}

// What a command started dies with it when it is given up, and when it has left
// something behind that holds its output.
func TestExecLeavesNothing(t *testing.T) {
	for _, script := range []string{"sleep 600 & echo $! > $0; wait", "sleep 600 & echo $! > $0"} {
		file := filepath.Join(t.TempDir(), "pid")
		p := &Probe{Check: &Exec{[]string{"sh", "-c", script, file}}, Timeout: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, nil) }()
		var pid int
		require.Eventually(t, func() bool {
			b, _ := os.ReadFile(file)
			var err error
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
			return err == nil
		}, 20*time.Second, 5*time.Millisecond)
		if strings.HasSuffix(script, "wait") {
			cancel()
			assert.ErrorIs(t, <-done, context.Canceled)
		} else {
			assert.NoError(t, <-done)
			cancel()
		}
		assert.Eventually(t, func() bool { return gone(pid) }, 20*time.Second, 5*time.Millisecond)
	}
}

// gone tells that a process has ended; it may still wait for its reaper.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}
