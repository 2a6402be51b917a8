package handoff

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// SelfTest checks once that the net/http of this toolchain reads as the boundary
// rule expects: it serves a few requests over net.Pipe and watches. It takes a
// fraction of a millisecond. An error means that connections must not move with
// this build; they are drained instead.
var SelfTest = sync.OnceValue(func() error { return selfTest(expectedSteps) })

// expectedSteps is what net/http does, written as the watcher sees it: the state,
// the deadlines set since then, and the size that the read asks for. The first read
// is of a new connection and may ask for anything. The client sends a request, waits
// for its answer, and sends the next one in three pieces: two bytes, the rest of the
// request line, the rest. Then it goes.
var expectedSteps = []string{
	"new: read",
	"active: background read 1", // beside the handler, for a client that goes
	"idle, 1 deadline: read 4096 (boundary, 0 held)",
	"idle, 1 deadline: read 4094 (boundary, 2 held)",
	"idle, more deadlines: read 4096",
	"active: background read 1",
	"idle, 1 deadline: read 4096 (boundary, 0 held)",
}

// selfTest runs the conversation with every combination of settings that changes
// how net/http reads.
func selfTest(expected []string) error {
	for _, timeouts := range []time.Duration{0, time.Hour} {
		for _, unencrypted := range []bool{false, true} {
			srv := &http.Server{
				Handler:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
				IdleTimeout: timeouts, ReadHeaderTimeout: timeouts,
			}
			if unencrypted {
				srv.Protocols = new(http.Protocols)
				srv.Protocols.SetHTTP1(true)
				srv.Protocols.SetUnencryptedHTTP2(true)
			}
			steps, err := watch(srv)
			if err == nil && !slices.Equal(steps, expected) {
				err = fmt.Errorf("it did %q, expected %q", steps, expected)
			}
			if err != nil {
				return fmt.Errorf("handoff: net/http of this Go version reads in a way that is not known (timeouts %s, HTTP/2 without TLS %t): %w", timeouts, unencrypted, err)
			}
		}
	}
	return nil
}

// watch has the conversation with srv and returns what it saw.
func watch(srv *http.Server) ([]string, error) {
	near, far := net.Pipe()
	w := &watcher{Conn: far, waiting: make(chan int, 1)}
	srv.ConnState = func(_ net.Conn, st http.ConnState) { w.state(st) }
	ln := newArrivals()
	ln.reserve()
	ln.put(w)
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }()
	defer func() {
		_ = near.Close()
		_ = far.Close()
		_ = ln.Close()
		<-served
	}()
	if err := near.SetDeadline(time.Now().Add(selfTestBound)); err != nil {
		return nil, err
	}
	const head = "GET / HTTP/1.1\r\n"
	const rest = "Host: x\r\n\r\n"
	br := bufio.NewReader(near)
	for _, pieces := range [][]string{{head + rest}, {head[:2], head[2:], rest}} {
		for _, piece := range pieces {
			if _, err := io.WriteString(near, piece); err != nil {
				return nil, err
			}
		}
		// net.Pipe gives a piece to one Read, so each write ends when it is read.
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		if err := w.idle(); err != nil {
			return nil, err
		}
	}
	return w.done(), nil
}

// selfTestBound is only met where something is wrong.
const selfTestBound = 5 * time.Second

// watcher is a connection that writes down how it is read.
type watcher struct {
	net.Conn
	waiting chan int // told when a read begins at a boundary with nothing held

	mu    sync.Mutex // guards what follows
	steps []string
	progress
}

func (w *watcher) state(st http.ConnState) {
	w.mu.Lock()
	w.enter(st)
	w.mu.Unlock()
}

func (w *watcher) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	w.deadlines++
	w.mu.Unlock()
	return w.Conn.SetReadDeadline(t)
}

func (w *watcher) Read(p []byte) (int, error) {
	w.mu.Lock()
	step := strings.ToLower(w.progress.state.String())
	held, boundary := w.boundary(len(p))
	switch {
	case w.progress.state == http.StateNew && boundary:
		step += ": read"
	case w.progress.state == http.StateNew:
		step = "" // the rest of the first message: no boundary, in whatever pieces
	case w.progress.state == http.StateActive && len(p) == 1:
		step += ": background read 1"
	case w.progress.state == http.StateIdle && w.deadlines == 1:
		step += fmt.Sprintf(", 1 deadline: read %d", len(p))
	default:
		step += fmt.Sprintf(", more deadlines: read %d", len(p))
	}
	if boundary && w.progress.state == http.StateIdle {
		step += fmt.Sprintf(" (boundary, %d held)", held)
	}
	if step != "" {
		w.steps = append(w.steps, step)
	}
	idle := boundary && w.progress.state == http.StateIdle && held == 0
	w.mu.Unlock()
	if idle {
		w.waiting <- 0
	}
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.deliver(p[:n])
	w.mu.Unlock()
	return n, err
}

// idle waits until the server waits for the next request.
func (w *watcher) idle() error {
	select {
	case <-w.waiting:
		return nil
	case <-time.After(selfTestBound):
		return errors.New("it does not wait for the next request")
	}
}

func (w *watcher) done() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.steps)
}
