package handoff

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// destination is where the connection is to move now, or nil: no move is on, it
// cannot, or the other side has refused it. The caller holds mu.
func (c *Conn) destination() *Sender {
	to := c.server.mover.Load()
	if to == nil || !c.fits(to) {
		return nil
	}
	return to
}

// fits tells whether the connection can move that way. The caller holds mu.
func (c *Conn) fits(to *Sender) bool {
	if c.server.tls || c.multiplexed || c.stays == to || c.closed {
		return false
	}
	// The handler that has it may not be able to, or may have begun to take leave.
	return c.state != http.StateHijacked || c.movable && !c.told
}

// offer lets the connection move if it waits at a boundary: it returns the parcel
// to send, or nil. A handler that has hijacked the connection is woken and offers
// it itself. Either way w waits for what comes of it.
func (c *Conn) offer(to *Sender, w *wave) *parcel {
	c.mu.Lock()
	if !c.parked || c.kicked || c.taken() || !c.fits(to) {
		c.mu.Unlock()
		return nil
	}
	if c.state == http.StateHijacked {
		// Before that it would not know where to go.
		if c.destination() == to && c.kick() {
			c.wave = w
			w.add()
		}
		c.mu.Unlock()
		return nil
	}
	it := c.item(c.held)
	c.transit = true
	c.wave = w
	w.add()
	c.mu.Unlock()

	fd, err := descriptor(c.socket)
	if err != nil {
		c.decide(to, -1, false)
		return nil
	}
	return &parcel{fd: fd, item: it, verdict: func(moved bool) { c.decide(to, fd, moved) }}
}

// settled tells the wave that waits for this connection that it has an answer.
// The caller holds mu.
func (c *Conn) settled() {
	if c.wave != nil {
		c.wave.settle()
		c.wave = nil
	}
}

// item describes a connection at a boundary where net/http has held bytes of the
// next message. The caller holds mu.
func (c *Conn) item(held int) Item {
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
	if d := c.readDeadline(); !d.IsZero() {
		it.Left = max(time.Until(d), time.Nanosecond)
	}
	c.address(&it)
	return it
}

func (c *Conn) address(it *Item) {
	it.Listener = c.listener
	if a := c.LocalAddr(); a != nil {
		it.Network, it.Local = a.Network(), text(a)
	}
	if a := c.RemoteAddr(); a != nil {
		it.Remote = text(a)
	}
}

// move offers the connection, which is at a boundary, and waits for the verdict.
// It reports whether another process has it now; then this one's descriptor is
// closed. The caller holds mu, which is released.
func (c *Conn) move(to *Sender, held int) bool {
	it := c.item(held)
	c.transit = true
	c.mu.Unlock()
	return c.await(to, it)
}

// await hands the item to the sender and carries out the verdict. The caller has
// set transit.
func (c *Conn) await(to *Sender, it Item) bool {
	fd, err := descriptor(c.socket)
	moved := err == nil && to.hand(fd, it)
	c.decide(to, fd, moved)
	return moved
}

// decide ends a transit with the sender's verdict.
func (c *Conn) decide(to *Sender, fd int, moved bool) {
	if !moved && fd >= 0 {
		// A process that has had it in its hands may have made the file blocking, which
		// the descriptors share (fcntl(2)).
		_ = unix.SetNonblock(fd, true)
	}
	c.mu.Lock()
	c.transit = false
	c.moved = moved
	if moved {
		c.fate = fateMoved
	} else {
		c.stays = to
		_ = c.socket.SetReadDeadline(c.readDeadline())
	}
	c.settled()
	if c.verdict != nil {
		close(c.verdict)
		c.verdict = nil
	}
	ends := moved || c.closing
	if moved && c.parked {
		// Read closes it: Close would wait here until Read has let go.
		ends = false
		_ = c.socket.SetReadDeadline(past)
	}
	c.mu.Unlock()
	if ends {
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

// A wave goes on in messages of waveStep connections, and at most waveLength are
// under way: enough to keep both processes busy, and so few that a request which
// arrives meanwhile on one of them does not wait for long.
const (
	waveStep   = 64
	waveLength = 3 * waveStep
)

// wave is the connections that have been offered, until each has moved, has been
// refused, or turned out to be busy.
type wave struct {
	mu    sync.Mutex // guards what follows
	n     int
	limit int           // of n, for which wait waits
	done  chan struct{} // closed when n is at most limit; nil while nobody waits
}

func (w *wave) add() {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
}

func (w *wave) settle() {
	w.mu.Lock()
	w.n--
	if w.n <= w.limit && w.done != nil {
		close(w.done)
		w.done = nil
	}
	w.mu.Unlock()
}

// wait waits until no more than limit are left.
func (w *wave) wait(ctx context.Context, limit int) error {
	w.mu.Lock()
	if w.n <= limit {
		w.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	w.done, w.limit = done, limit
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
	// Connections in use are served here as long as the many idle ones keep the peer
	// busy: what comes to a boundary meanwhile does not queue behind them.
	err := s.sweep(ctx, to)
	s.mover.Store(to)
	if err != nil {
		return err
	}
	return s.sweep(ctx, to)
}

// sweep hands over every connection that waits at a boundary.
func (s *Server) sweep(ctx context.Context, to *Sender) error {
	var w wave
	for some := range slices.Chunk(s.snapshot(), waveStep) {
		if err := w.wait(ctx, waveLength-waveStep); err != nil {
			return err
		}
		var parcels []*parcel
		for _, c := range some {
			if p := c.offer(to, &w); p != nil {
				parcels = append(parcels, p)
			}
		}
		to.enqueue(parcels...)
	}
	return w.wait(ctx, 0)
}

// Stay ends a move: connections that have not moved are this process's for good,
// once their sender has been stopped.
func (s *Server) Stay() { s.mover.Store(nil) }
