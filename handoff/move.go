package handoff

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// destination is where the connection is to move now, or nil: no move is on, it
// cannot, or the other side has refused it. The caller holds mu.
func (c *Conn) destination() *Sender {
	to := c.server.mover.Load()
	if to == nil || c.server.tls || c.multiplexed || c.stays == to || c.closed {
		return nil
	}
	if c.state == http.StateHijacked && (!c.movable || c.told) {
		return nil // its handler cannot, or has begun to take leave
	}
	return to
}

// offer wakes the connection if it waits at a boundary, so that it moves. w waits
// for what comes of it.
func (c *Conn) offer(w *wave) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.destination() != nil && c.kick() {
		w.add()
		c.wave = w
	}
}

// settled tells the wave that waits for this connection that it has an answer.
// The caller holds mu.
func (c *Conn) settled() {
	if c.wave != nil {
		c.wave.settle()
		c.wave = nil
	}
}

// move offers the connection, which is at a boundary, and waits for the verdict.
// It reports whether another process has it now; then this one's descriptor is
// closed. The caller holds mu, which is released.
func (c *Conn) move(to *Sender, held int) bool {
	it := Item{Kind: kindIdle, Prefix: c.last(held)}
	if c.state == http.StateNew {
		it.Kind = kindFresh
		if a := c.arrival; a != nil {
			it.Prefix = a.prefix
			if a.blank > 0 { // it has been in use, in a process before
				it.Kind = kindIdle
			}
		}
	}
	c.transit = true
	c.mu.Unlock()
	return c.await(to, it)
}

// await completes the item, hands it to the sender and carries out the verdict. The
// caller has set transit.
func (c *Conn) await(to *Sender, it Item) bool {
	it.Listener = c.listener
	if a := c.LocalAddr(); a != nil {
		it.Network, it.Local = a.Network(), a.String()
	}
	if a := c.RemoteAddr(); a != nil {
		it.Remote = a.String()
	}
	c.mu.Lock()
	if d := c.readDeadline(); !d.IsZero() && it.Kind != kindHijacked {
		it.Left = max(time.Until(d), time.Nanosecond)
	}
	c.mu.Unlock()
	fd, err := descriptor(c.socket)
	moved := err == nil && to.hand(fd, it)

	c.mu.Lock()
	c.transit = false
	c.moved = moved
	closing := c.closing
	if moved {
		c.fate = fateMoved
	} else {
		c.stays = to
	}
	c.settled()
	deadline := c.readDeadline()
	c.mu.Unlock()
	if moved || closing {
		_ = c.Close()
		return moved
	}
	// A process that has had it in its hands may have made the file blocking, which
	// the descriptors share (fcntl(2)).
	if err == nil {
		_ = unix.SetNonblock(fd, true)
	}
	_ = c.socket.SetReadDeadline(deadline)
	return false
}

// stay ends a transit that has not begun.
func (c *Conn) stay(to *Sender) {
	c.mu.Lock()
	c.transit = false
	c.stays = to
	c.settled()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		_ = c.Close()
	}
}

// descriptor is the number of a socket's descriptor. It is good as long as
// nobody closes the socket.
func descriptor(s socket) (int, error) {
	rc, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err = rc.Control(func(f uintptr) { fd = int(f) })
	return fd, err
}

// wave waits until each connection that was woken has moved, has been refused, or
// turned out to be busy.
type wave struct {
	mu   sync.Mutex // guards what follows
	n    int
	done chan struct{} // closed when n is 0; made by wait
}

func (w *wave) add() {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
}

func (w *wave) settle() {
	w.mu.Lock()
	w.n--
	if w.n == 0 && w.done != nil {
		close(w.done)
		w.done = nil
	}
	w.mu.Unlock()
}

func (w *wave) wait(ctx context.Context) error {
	w.mu.Lock()
	if w.n == 0 {
		w.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	w.done = done
	w.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Move hands every connection that waits at a boundary to the sender's peer, and
// from now on each one that comes to a boundary. It returns when all of the former
// have moved or have been refused; an error means that ctx ended first. The
// connections that the peer refuses, or that cannot move, stay.
func (s *Server) Move(ctx context.Context, to *Sender) error {
	if s.tls {
		return nil
	}
	if err := SelfTest(); err != nil {
		return err
	}
	s.mover.Store(to)
	var w wave
	for _, c := range s.snapshot() {
		c.offer(&w)
	}
	return w.wait(ctx)
}

// Stay ends a move: connections that have not moved are this process's for good,
// once their sender has been stopped.
func (s *Server) Stay() { s.mover.Store(nil) }
