package handoff

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is a connection that knows whether it is in the middle of a message. It
// passes everything on to the socket below; what it adds is a look at each Read
// and deadline, and two ways out at a message boundary: to another process, or
// closed.
type Conn struct {
	socket
	server   *Server
	listener string // the name of the one that accepted it

	mu sync.Mutex // guards what follows
	progress
	multiplexed bool      // HTTP/2, where idle means "no stream"
	heard       time.Time // when bytes last arrived, kept while a TLS connection is new
	wanted      time.Time // the owner's read deadline
	arrival     *arrival  // not nil until the first message after a move has begun
	late        time.Duration

	parked  bool    // blocked in Read at a message boundary
	held    int     // bytes of the next message that net/http has by then
	quiet   bool    // and none is held at all: it could be closed
	kicked  bool    // woken from there
	retires bool    // in order to be closed
	wave    *wave   // waits for what comes of an offer
	stays   *Sender // refused to take it: it is not offered there again

	transit bool          // a sender has the descriptor: it must stay open, and nobody reads
	verdict chan struct{} // closed when that is over; made by a Read that waits for it
	moved   bool          // another process has it
	closing bool          // Close was called meanwhile
	closed  bool
	fate    fate

	told     bool          // it is this connection's turn to leave
	leaving  chan struct{} // closed then; made when a handler first asks
	requests []request     // running on this connection: one, or many with HTTP/2
	movable  bool          // hijacked, by a handler that can resume elsewhere

	guard guard // of the reading goroutine
}

// socket is what *net.TCPConn, *net.UnixConn and an adopted descriptor have in
// common.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// fileConn keeps the method by which the standard library finds sendfile(2) and
// splice(2).
type fileConn struct {
	*Conn
	from io.ReaderFrom
}

func (c fileConn) ReadFrom(r io.Reader) (int64, error) { return c.from.ReadFrom(r) }

// WriteTo is for handlers that have hijacked the connection and copy from it.
func (c fileConn) WriteTo(w io.Writer) (int64, error) {
	if to, ok := c.socket.(io.WriterTo); ok {
		return to.WriteTo(w)
	}
	return io.Copy(w, struct{ io.Reader }{c.Conn})
}

// request is one that is being carried out.
type request struct {
	r      *http.Request // identity only: the handler may change what is in it
	method string
	path   string
	began  time.Time
}

// track wraps an accepted connection. Closing the result closes c.
func (s *Server) track(c net.Conn, listener string) net.Conn {
	sock, ok := c.(socket)
	if !ok {
		return c // not a kernel socket, nothing to track
	}
	return s.wrap(&Conn{socket: sock, server: s, listener: listener})
}

func (s *Server) wrap(t *Conn) net.Conn {
	s.add(t)
	if from, ok := t.socket.(io.ReaderFrom); ok {
		return fileConn{Conn: t, from: from}
	}
	return t
}

// tracked finds the connection below what net/http shows: itself, or under TLS.
func tracked(c net.Conn) *Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	switch c := c.(type) {
	case fileConn:
		return c.Conn
	case *Conn:
		return c
	}
	return nil
}

// waits tells whether a Read of size bytes that begins now waits at a message
// boundary, where it may be interrupted, and whether the connection is quiet: not
// even a part of the next message has been read, so that it may be closed without
// harm. Under TLS the sizes are those of records, so there it counts that nothing
// arrived since. The caller holds mu.
func (c *Conn) waits(size int) (parked, quiet bool) {
	if c.multiplexed {
		return false, false // HTTP/2 sends GOAWAY instead
	}
	if c.server.tls {
		// New until its first request; retire sees to the handshake.
		quiet = c.state == http.StateNew || c.state == http.StateIdle && c.deadlines == 1 && c.delivered == 0
		return quiet, quiet
	}
	held, ok := c.boundary(size)
	return ok, ok && held == 0 && (c.arrival == nil || len(c.arrival.prefix) == 0)
}

// handshakePause is how long a TLS client that has not sent a request yet must
// have been quiet before its connection counts as silent.
const handshakePause = time.Second

// Read reads from the socket. At a message boundary it lets the connection go: to
// another process while a move is on, or, when a drain retires silent connections,
// closed. Both return io.EOF, as if the client had closed.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		held, ok := c.boundary(len(p))
		if ok {
			if to := c.destination(); to != nil {
				if c.move(to, held) { // unlocks
					return 0, io.EOF
				}
				continue
			}
		}
		if c.closed {
			c.mu.Unlock()
			return 0, net.ErrClosed
		}
		c.parked, c.quiet = c.waits(len(p))
		c.held = held
		guarded := c.parked && !c.server.tls
		arrived := c.arrival
		c.mu.Unlock()

		n, err := c.receive(p, arrived, guarded)

		c.mu.Lock()
		if guarded && n == 0 && c.transit {
			c.undecided()
			err = nil
		}
		if guarded && c.moved {
			c.mu.Unlock()
			_ = c.Close()
			return 0, io.EOF
		}
		c.parked = false
		kicked, retire := c.kicked, c.retires
		c.kicked, c.retires = false, false
		if n > 0 {
			c.deliver(p[:n])
			c.multiplexed = c.multiplexed || c.server.h2c && c.isPreface()
			if arrived != nil {
				c.settleIn()
			}
			if c.server.tls && c.state == http.StateNew {
				c.heard = time.Now()
			}
		}
		if kicked {
			_ = c.socket.SetReadDeadline(c.readDeadline())
		}
		again := n == 0 && (err == nil || kicked && errors.Is(err, os.ErrDeadlineExceeded))
		retire = retire && again && c.destination() == nil
		c.mu.Unlock()
		if !again {
			if guarded && err != nil {
				err = c.readError(err)
			}
			return n, err
		}
		if retire && !unreadBytes(c.socket) {
			c.ends(fateRetired)
			return 0, io.EOF
		}
		// Or a request arrived in the very moment: it is answered like any other.
	}
}

// retire ends a connection that waits for a message. It reports whether this
// one did.
func (c *Conn) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == http.StateNew && time.Since(c.heard) < handshakePause {
		return false
	}
	if !c.quiet || c.state == http.StateHijacked || !c.kick() {
		return false
	}
	c.retires = true
	return true
}

// kick wakes the owner from a Read at a message boundary. The caller holds mu.
// Only there: net/http takes a deadline that passes in the read which it keeps
// going beside a handler for a client that has gone.
func (c *Conn) kick() bool {
	if !c.parked || c.kicked || c.closed || c.taken() {
		return false
	}
	c.kicked = true
	_ = c.socket.SetReadDeadline(past)
	return true
}

// SetReadDeadline is counted, and kept from undoing a kick.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines++
	if c.late > 0 && c.state == http.StateNew && !t.IsZero() {
		t = t.Add(c.late)
	}
	c.wanted = t
	if c.kicked || c.taken() {
		return nil // set when that is over
	}
	return c.socket.SetReadDeadline(c.readDeadline())
}

// readDeadline is the one in force. The caller holds mu.
func (c *Conn) readDeadline() time.Time {
	if c.arrival != nil {
		return c.arrival.until
	}
	return c.wanted
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection and forgets it. While a sender has the descriptor
// it waits for the verdict, without blocking the caller.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.transit {
		c.closing = true
		c.mu.Unlock()
		return nil
	}
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	if !first {
		return nil
	}
	err := c.socket.Close()
	c.server.remove(c)
	return err
}

// setState follows net/http's view of the connection (http.Server.ConnState).
func (c *Conn) setState(st http.ConnState) {
	c.mu.Lock()
	c.enter(st)
	if st != http.StateNew {
		c.late = 0
	}
	c.mu.Unlock()
}

// begin and end bracket a request.
func (c *Conn) begin(r *http.Request, now time.Time) {
	c.mu.Lock()
	c.requests = append(c.requests, request{r: r, method: r.Method, path: r.URL.Path, began: now})
	c.mu.Unlock()
}

func (c *Conn) end(r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.requests {
		if c.requests[i].r == r {
			last := len(c.requests) - 1
			c.requests[i] = c.requests[last]
			c.requests[last] = request{}
			if c.requests = c.requests[:last]; last == 0 && c.closed {
				c.server.forget(c)
			}
			return
		}
	}
}

// leave gives out the channel that tellToLeave closes.
func (c *Conn) leave() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving == nil {
		c.leaving = make(chan struct{})
		if c.told {
			close(c.leaving)
		}
	}
	return c.leaving
}

func (c *Conn) tellToLeave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.told && c.leaving != nil {
		close(c.leaving)
	}
	c.told = true
}

// moves tells whether the connection is to move when it is at a boundary.
func (c *Conn) moves() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.destination() != nil
}

// ends notes how the connection comes to its end, unless that is known already.
func (c *Conn) ends(f fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fate == fateClosed && !c.closed {
		c.fate = f
	}
}

// sight is what the drain sees of a connection at one moment.
type sight struct {
	state    http.ConnState
	hijacked bool
	silent   bool
	told     bool
	moves    bool // it is to move, sooner or later
	requests int
}

func (c *Conn) look() sight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sight{
		state:    c.state,
		hijacked: c.state == http.StateHijacked,
		silent:   c.parked && c.quiet && c.state != http.StateHijacked,
		told:     c.told,
		moves:    c.destination() != nil,
		requests: len(c.requests),
	}
}

// cut closes the connection and returns the requests that this ends.
func (c *Conn) cut(now time.Time) []Cut {
	c.mu.Lock()
	var cuts []Cut
	for _, q := range c.requests {
		peer := ""
		if a := c.RemoteAddr(); a != nil {
			peer = a.String()
		}
		cuts = append(cuts, Cut{Method: q.method, Path: q.path, Peer: peer, Age: now.Sub(q.began)})
	}
	c.mu.Unlock()
	c.ends(fateDropped)
	_ = c.Close()
	return cuts
}
