package handoff

import (
	"net"
	"sync"
)

// arrivals is a listener whose connections come from another process.
type arrivals struct {
	wake chan struct{}
	next []net.Conn // Accept's own: taken from the queue, all at once

	mu     sync.Mutex // guards what follows
	queue  []net.Conn
	closed bool
	done   chan struct{} // closed with it
}

func newArrivals() *arrivals {
	return &arrivals{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// put queues a connection for the server. It reports false after Close.
func (a *arrivals) put(c net.Conn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.queue = append(a.queue, c)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return true
}

// Accept implements net.Listener. One goroutine calls it.
func (a *arrivals) Accept() (net.Conn, error) {
	for len(a.next) == 0 {
		a.mu.Lock()
		a.next, a.queue = a.queue, nil
		closed := a.closed
		a.mu.Unlock()
		if len(a.next) > 0 {
			break
		}
		if closed {
			return nil, net.ErrClosed
		}
		select {
		case <-a.wake:
		case <-a.done:
		}
	}
	c := a.next[0]
	a.next[0] = nil
	a.next = a.next[1:]
	return c, nil
}

// Close takes no more; what is queued is still accepted.
func (a *arrivals) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		close(a.done)
	}
	return nil
}

// Addr implements net.Listener.
func (a *arrivals) Addr() net.Addr { return arrivalAddr{} }

type arrivalAddr struct{}

func (arrivalAddr) Network() string { return "handoff" }
func (arrivalAddr) String() string  { return "handed over" }
