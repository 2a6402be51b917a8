package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Mover says how a handler that has hijacked a connection goes on in another
// process.
type Mover struct {
	// Name is that of the [Resume] function which goes on.
	Name string
	// Freeze returns what that function needs, at most MaxConnState bytes, and from
	// then on nobody may write to the connection until Thaw, or for ever if it moves.
	// It is called by the goroutine that waits, so no message is half read. An error
	// means that the connection cannot move now.
	Freeze func() ([]byte, error)
	// Thaw is called when the connection stays after all. It may be nil.
	Thaw func()
}

// ErrMoved is returned by [Boundary.Wait] when another process has the
// connection. The handler returns without a word to the client.
var ErrMoved = errors.New("handoff: the connection has moved to another process")

// Boundary is where a hijacked connection can move: between two messages of the
// handler's protocol.
type Boundary struct {
	c     *Conn // nil for a connection that is not tracked: it never moves
	mover Mover
}

// Movable tells that a hijacked connection can move. conn is what Hijack
// returned, or what a [Resume] was given. For one that cannot (under TLS, for
// example) it makes a Boundary that only waits.
func Movable(conn net.Conn, m Mover) *Boundary {
	b := &Boundary{c: tracked(conn), mover: m}
	if b.c != nil && !b.c.server.tls {
		b.c.mu.Lock()
		b.c.movable = true
		b.c.mu.Unlock()
	}
	return b
}

// Wait waits between two messages until there is something to read, without
// reading it; the handler must have used up what it had buffered. [ErrMoved] means
// that the connection is another process's now. Other errors are those of a read, a
// read deadline that has passed among them. After [Leaving] has told the handler to
// go, it does not move any more.
func (b *Boundary) Wait() error {
	c := b.c
	if c == nil || c.server.tls {
		return nil // the read that follows waits
	}
	for {
		c.mu.Lock()
		if to := c.destination(); to != nil {
			c.transit = true
			c.mu.Unlock()
			if b.move(to) {
				return ErrMoved
			}
			continue
		}
		if c.closed {
			c.mu.Unlock()
			return net.ErrClosed
		}
		c.parked, c.quiet = true, false
		c.mu.Unlock()

		err := readable(c.socket)

		c.mu.Lock()
		c.parked = false
		kicked := c.kicked
		c.kicked = false
		if kicked {
			_ = c.socket.SetReadDeadline(c.readDeadline())
		}
		if c.closed {
			err = net.ErrClosed // an adopted descriptor says it in other words
		}
		again := kicked && errors.Is(err, os.ErrDeadlineExceeded)
		if !again || c.destination() == nil {
			c.settled()
		}
		c.mu.Unlock()
		if !again {
			return err
		}
	}
}

// move freezes the handler and offers the connection.
func (b *Boundary) move(to *Sender) (moved bool) {
	c := b.c
	state, err := b.mover.Freeze()
	if err == nil && len(state) > MaxConnState {
		err = fmt.Errorf("handoff: the state of %s has %d bytes, more than %d", b.mover.Name, len(state), MaxConnState)
	}
	if err == nil {
		it := Item{Kind: kindHijacked, Handler: b.mover.Name, State: state}
		c.address(&it)
		moved = c.await(to, it)
	} else {
		c.server.logf("handoff: %s stays where it is: %v", b.mover.Name, err)
		c.decide(to, -1, false)
	}
	if !moved && b.mover.Thaw != nil {
		b.mover.Thaw()
	}
	return moved
}

// readable waits until a read would not block, as far as the read deadline allows.
func readable(s socket) error {
	rc, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
}
