package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Listener is a listening socket whose accept loop can be parked: it stops
// taking connections while the socket stays open, so that the kernel goes on
// completing handshakes for whoever else accepts from it.
type Listener struct {
	address Address
	passed  bool // by a service manager, which keeps its own descriptor
	inner   deadlineListener

	mu       sync.Mutex    // guards what follows
	loops    int           // accept loops inside or between calls of Accept
	waiting  int           // of these, the ones that have confirmed
	parked   chan struct{} // closed when waiting == loops; nil while accepting
	resume   chan struct{} // closed by Unpark
	closed   chan struct{}
	isClosed bool
	own      []*ownConn // connections that Ask has made, for the accept loop to take next

	swept chan net.Conn // connections taken from the queue while parked
}

type deadlineListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

func newListener(a Address, ln net.Listener, passed bool) *Listener {
	return &Listener{
		address: a, passed: passed,
		inner:  ln.(deadlineListener), // *net.TCPListener or *net.UnixListener, as bound or inherited
		closed: make(chan struct{}), swept: make(chan net.Conn),
	}
}

// Name is the name under which the listener was asked for.
func (l *Listener) Name() string { return l.address.Name }

// Passed tells whether a service manager passed the socket and keeps it open.
func (l *Listener) Passed() bool { return l.passed }

// Addr is the address that the socket is bound to.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Address is what the listener was asked for by.
func (l *Listener) Address() Address { return l.address }

// SyscallConn gives access to the socket, to duplicate it for example.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.inner.SyscallConn() }

// String gives "name=address" with the address that is really bound.
func (l *Listener) String() string {
	a := l.address
	a.Addr = l.inner.Addr().String()
	return a.String()
}

// Backlog tells how many connections wait in the accept queue, and how many it
// takes. It does not know for a Unix socket, of which the kernel tells only by netlink
// (sock_diag(7)), on other systems than Linux, and when the listener is closed.
func (l *Listener) Backlog() (waiting, limit int, known bool) {
	if l.address.Network != "tcp" {
		return 0, 0, false
	}
	waiting, limit, err := l.backlog()
	return waiting, limit, err == nil
}

// past is a deadline that ends a wait at once.
var past = time.Unix(1, 0)

// begin counts an accept loop, so that Park knows how many must confirm.
func (l *Listener) begin() {
	l.mu.Lock()
	l.loops++
	l.mu.Unlock()
}

func (l *Listener) end() {
	l.mu.Lock()
	l.loops--
	l.confirm()
	l.mu.Unlock()
}

// confirm wakes Park when the last loop is at rest. The caller holds mu.
func (l *Listener) confirm() {
	if l.parked == nil || l.waiting < l.loops {
		return
	}
	select {
	case <-l.parked:
	default:
		close(l.parked)
	}
}

// accept waits for a connection; while parked, it waits for Unpark, for a
// connection that the sweep found, or for Close.
func (l *Listener) accept() (net.Conn, error) {
	for {
		c, err := l.inner.Accept()
		if err == nil {
			return c, nil
		}
		l.mu.Lock()
		switch {
		case l.isClosed:
			l.mu.Unlock()
			return nil, net.ErrClosed
		case !errors.Is(err, os.ErrDeadlineExceeded):
			l.mu.Unlock()
			return nil, err
		case l.parked == nil:
			own := l.takeOwn()
			l.mu.Unlock()
			if own != nil {
				return own, nil
			}
			continue // unparked meanwhile
		}
		l.waiting++
		l.confirm()
		resume := l.resume
		l.mu.Unlock()

		c, err = nil, nil
		select {
		case <-resume:
		case c = <-l.swept:
		case <-l.closed:
			err = net.ErrClosed
		}
		l.mu.Lock()
		l.waiting--
		l.mu.Unlock()
		if c != nil || err != nil {
			return c, err
		}
	}
}

// Park makes every accept loop of the listener wait and returns when all have
// confirmed: from then on no connection leaves the accept queue through this
// process. It is idempotent. An error means that ctx ended first; the loops are
// told all the same.
func (l *Listener) Park(ctx context.Context) error {
	l.mu.Lock()
	if l.isClosed {
		l.mu.Unlock()
		return nil
	}
	if l.parked == nil {
		l.parked, l.resume = make(chan struct{}), make(chan struct{})
		l.refuseOwn()
	}
	l.confirm()
	parked := l.parked
	err := l.inner.SetDeadline(past)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("handoff: park %s: %w", l.address, err)
	}
	select {
	case <-parked:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("handoff: park %s: the accept loop did not stop: %w", l.address, ctx.Err())
	}
}

// Parked tells whether the accept loops have been asked to wait.
func (l *Listener) Parked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parked != nil
}

// Unpark lets the accept loops go on.
func (l *Listener) Unpark() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked == nil || l.isClosed {
		return nil
	}
	err := l.inner.SetDeadline(time.Time{})
	close(l.resume)
	l.parked, l.resume = nil, nil
	return err
}

// Sweep serves the connections that wait in the accept queue of a parked
// listener. It is for the last process that holds the socket: closing it would
// reset them. It returns how many it found.
func (l *Listener) Sweep(ctx context.Context) int {
	n := 0
	for {
		c, err := acceptNow(l.inner)
		if err != nil || c == nil {
			return n
		}
		select {
		case l.swept <- c:
			n++
		case <-l.closed:
			_ = c.Close()
			return n
		case <-ctx.Done():
			_ = c.Close()
			return n
		}
	}
}

// Close closes this process's descriptor of the socket and ends the accept
// loops. A Unix socket's file stays: it belongs to the chain of processes.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed {
		return nil
	}
	l.isClosed = true
	l.refuseOwn()
	close(l.closed)
	return l.inner.Close()
}
