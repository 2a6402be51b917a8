package handoff

import (
	"net"
	"sync"
)

// arrivals is a listener whose connections come from another process.
type arrivals struct {
	wake chan struct{}

	mu       sync.Mutex // guards what follows
	queue    []net.Conn
	expected int // have a seat and are not here yet
	closed   bool
}

func newArrivals() *arrivals {
	return &arrivals{wake: make(chan struct{}, 1)}
}

// expect reserves a seat before a connection is acknowledged: from then on it must
// be served, whatever is closed meanwhile. It reports false after Close. Each seat is
// given back by seat.
func (a *arrivals) expect() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.expected++
	return true
}

// seat queues a connection for the server in the seat that was reserved for it. A
// nil one has not come after all, or does not need the server.
func (a *arrivals) seat(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected--
	if c != nil {
		a.queue = append(a.queue, c)
	}
	a.nudge()
}

func (a *arrivals) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Accept implements net.Listener. One goroutine calls it.
func (a *arrivals) Accept() (net.Conn, error) {
	for {
		a.mu.Lock()
		if len(a.queue) > 0 {
			c := a.queue[0]
			a.queue = a.queue[1:]
			a.mu.Unlock()
			return c, nil
		}
		over := a.closed && a.expected == 0
		a.mu.Unlock()
		if over {
			return nil, net.ErrClosed
		}
		<-a.wake
	}
}

// Close gives out no more seats; who has one is still accepted.
func (a *arrivals) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.nudge()
	return nil
}

// Addr implements net.Listener.
func (a *arrivals) Addr() net.Addr { return arrivalAddr{} }

type arrivalAddr struct{}

func (arrivalAddr) Network() string { return "handoff" }
func (arrivalAddr) String() string  { return "handed over" }
