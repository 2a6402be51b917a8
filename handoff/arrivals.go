package handoff

import (
	"net"
	"sync"
)

// arrivals is a listener whose connections come from another process.
type arrivals struct {
	wake chan struct{}
	next []net.Conn // Accept's own: taken from the queue, all at once

	mu       sync.Mutex // guards what follows
	queue    []net.Conn
	expected int // places that are reserved
	closed   bool
	done     chan struct{} // closed when nothing more will come
}

func newArrivals() *arrivals {
	return &arrivals{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// reserve keeps a place for a connection, until put or release: once it has been
// acknowledged, it must be served. It reports false after Close.
func (a *arrivals) reserve() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.expected++
	return true
}

// put queues a connection for the server in the place that was reserved for it.
func (a *arrivals) put(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queue = append(a.queue, c)
	select {
	case a.wake <- struct{}{}:
	default:
	}
	a.free()
}

// release gives a reserved place up.
func (a *arrivals) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free()
}

// free ends one reservation. The caller holds mu.
func (a *arrivals) free() {
	a.expected--
	a.finish()
}

// finish tells Accept that nothing more will come. The caller holds mu.
func (a *arrivals) finish() {
	if a.closed && a.expected == 0 {
		close(a.done)
	}
}

// Accept implements net.Listener. One goroutine calls it.
func (a *arrivals) Accept() (net.Conn, error) {
	for len(a.next) == 0 {
		a.mu.Lock()
		a.next, a.queue = a.queue, nil
		ended := a.closed && a.expected == 0
		a.mu.Unlock()
		if len(a.next) > 0 {
			break
		}
		if ended {
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

// Close takes no more; what is queued or reserved is still accepted.
func (a *arrivals) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		a.finish()
	}
	return nil
}

// Addr implements net.Listener.
func (a *arrivals) Addr() net.Addr { return arrivalAddr{} }

type arrivalAddr struct{}

func (arrivalAddr) Network() string { return "handoff" }
func (arrivalAddr) String() string  { return "handed over" }
