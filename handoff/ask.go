package handoff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// A process that wants to know whether it still answers asks itself. A connection
// through the kernel would wait in the accept queue behind those of the clients, and a
// server that is merely busy would seem dead. So the accept loop is woken, as for Park,
// and given a connection that exists in this process only; everything behind it is
// the same as for a client.

// maxOwnAnswer bounds what is read of the answer to such a request.
const maxOwnAnswer = 64 << 10

type ownKey struct{}

// Own tells whether a request is one that the process makes of itself: see
// [Server.Ask]. It is nobody's to count or to log.
func Own(ctx context.Context) bool {
	own, _ := ctx.Value(ownKey{}).(bool)
	return own
}

// ownConn is the server's end of a connection that Ask has made.
type ownConn struct {
	net.Conn
	taken   chan struct{} // closed when the accept loop has it
	refused chan struct{} // closed when it never will: it is parked, or ends
}

// isOwn tells whether c is the process's own.
func isOwn(c net.Conn) bool {
	_, ok := c.(*ownConn)
	return ok
}

// Ask sends the server a request through the accept loop of ln, and returns nil when it
// has been answered with a status below 500. What lies between is checked by that: the
// accept loop, net/http, and the handler; not TLS, and not the kernel's queue. An empty
// path asks net/http itself (OPTIONS *), which leaves the handler out.
//
// A listener whose accept loops are parked takes no connection on purpose; then the
// request comes in as connections of another process do. One that is closed is an
// error, [net.ErrClosed].
//
// It is bounded by ctx. A handler that hangs keeps a goroutine, as any request would.
func (s *Server) Ask(ctx context.Context, ln *Listener, path string) error {
	mine, theirs := net.Pipe()
	defer func() { _ = mine.Close() }()
	c := &ownConn{Conn: theirs, taken: make(chan struct{}), refused: make(chan struct{})}
	if !ln.offerOwn(c) && !s.arrive(c) {
		_ = theirs.Close()
		return net.ErrClosed
	}
	select {
	case <-c.taken:
	case <-c.refused: // parked meanwhile
		if !s.arrive(c) {
			_ = theirs.Close()
			return net.ErrClosed
		}
	case <-ctx.Done():
		ln.withdrawOwn(c)
		return fmt.Errorf("the accept loop of %s does not take connections: %w", ln, context.Cause(ctx))
	}
	stop := context.AfterFunc(ctx, func() { _ = mine.SetDeadline(past) })
	defer stop()
	status, err := askHTTP(mine, path)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s does not answer: %w", ln, context.Cause(ctx))
	case errors.Is(err, io.EOF) && s.http.Protocols != nil && !s.http.Protocols.HTTP1():
		return nil // it has no HTTP/1 to answer with; it has come as far as that
	case err != nil:
		return fmt.Errorf("%s does not answer: %w", ln, err)
	case status >= http.StatusInternalServerError:
		return fmt.Errorf("%s answers %s with status %d", ln, path, status)
	}
	return nil
}

// askHTTP is one request, and the status of its answer.
func askHTTP(c net.Conn, path string) (int, error) {
	line := "GET " + path
	if path == "" {
		line = "OPTIONS *"
	}
	if _, err := io.WriteString(c, line+" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: holdfast-self-check\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	// Read, so that the handler can write it.
	_, err = io.CopyN(io.Discard, resp.Body, maxOwnAnswer)
	_ = resp.Body.Close()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return resp.StatusCode, err
}

// arrive has the server take c as it takes connections of other processes.
func (s *Server) arrive(c *ownConn) bool {
	if !s.arrivals.reserve() {
		return false
	}
	select {
	case <-c.taken:
	default:
		close(c.taken)
	}
	s.arrivals.put(c)
	return true
}

// offerOwn wakes an accept loop, which takes c before anything of the queue. It reports
// false if none will.
func (l *Listener) offerOwn(c *ownConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed || l.parked != nil || l.loops == 0 {
		return false
	}
	l.own = append(l.own, c)
	return l.inner.SetDeadline(past) == nil
}

// takeOwn is the accept loop's. The caller holds mu, and nobody is parked.
func (l *Listener) takeOwn() *ownConn {
	if len(l.own) == 0 {
		return nil
	}
	c := l.own[0]
	l.own = l.own[1:]
	if len(l.own) == 0 {
		_ = l.inner.SetDeadline(time.Time{})
	}
	close(c.taken)
	return c
}

// refuseOwn tells those who wait that no accept loop comes. The caller holds mu.
func (l *Listener) refuseOwn() {
	for _, c := range l.own {
		close(c.refused)
	}
	l.own = nil
}

// withdrawOwn takes c back, if nobody has it.
func (l *Listener) withdrawOwn(c *ownConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own = slices.DeleteFunc(l.own, func(o *ownConn) bool { return o == c })
	if len(l.own) == 0 && l.parked == nil && !l.isClosed {
		_ = l.inner.SetDeadline(time.Time{})
	}
	_ = c.Close()
}
