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

// Conn is an accepted connection that knows whether it is in the middle of a
// message. It passes everything on to the connection below; what it adds is a
// look at each Read and deadline, and a way out at a message boundary.
type Conn struct {
	socket
	server *Server

	mu          sync.Mutex // guards what follows
	state       http.ConnState
	multiplexed bool          // HTTP/2, where idle means "no stream"
	deadlines   int           // SetReadDeadline calls since the state was set
	delivered   int64         // bytes read since the state was set
	heard       time.Time     // when bytes last arrived, kept while a TLS connection is new
	wanted      time.Time     // the owner's read deadline
	parked      bool          // blocked in Read at a message boundary
	kicked      bool          // woken from there by retire
	told        bool          // it is this connection's turn to leave
	leaving     chan struct{} // closed then; made when a handler first asks
	closed      bool
	requests    []request // running on this connection: one, or many with HTTP/2
}

// socket is what *net.TCPConn and *net.UnixConn have in common.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// tcpConn keeps the methods that only TCP has: the standard library finds
// sendfile(2) and splice(2) by them.
type tcpConn struct {
	*Conn
	tcp *net.TCPConn
}

func (c tcpConn) ReadFrom(r io.Reader) (int64, error) { return c.tcp.ReadFrom(r) }

// request is one that is being carried out.
type request struct {
	r      *http.Request // identity only: the handler may change what is in it
	method string
	path   string
	began  time.Time
}

// track wraps an accepted connection. Closing the result closes c.
func (s *Server) track(c net.Conn) net.Conn {
	sock, ok := c.(socket)
	if !ok {
		return c // not a kernel socket, nothing to track
	}
	t := &Conn{socket: sock, server: s, state: http.StateNew}
	s.add(t)
	if tcp, ok := c.(*net.TCPConn); ok {
		return tcpConn{Conn: t, tcp: tcp}
	}
	return t
}

// tracked finds the connection below what net/http shows: itself, or under TLS.
func tracked(c net.Conn) *Conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	switch c := c.(type) {
	case tcpConn:
		return c.Conn
	case *Conn:
		return c
	}
	return nil
}

// bufferSize is the size of the reader that net/http keeps for each connection
// (net/http: newBufioReader). Waiting for the next request it asks for a full
// buffer less what is already in it.
const bufferSize = 4096

// atBoundary tells whether a Read of size bytes that begins now waits for the
// first byte of a message. net/http stays in StateIdle while it reads a request's
// header; what tells the two apart is that it sets the read deadline once when it
// begins to wait and again when the first bytes are there (net/http: conn.serve).
// Under TLS the sizes are those of records, so there it counts that nothing
// arrived since. The caller holds mu.
func (c *Conn) atBoundary(size int) bool {
	if c.multiplexed {
		return false // HTTP/2 sends GOAWAY instead
	}
	switch c.state {
	case http.StateNew:
		// A TLS connection is new until its first request; retire sees to the
		// handshake.
		return c.delivered == 0 || c.server.tls
	case http.StateIdle:
		return c.deadlines == 1 && c.delivered == 0 && (c.server.tls || size == bufferSize)
	}
	return false
}

// handshakePause is how long a TLS client that has not sent a request yet must
// have been quiet before its connection counts as silent.
const handshakePause = time.Second

// Read reads from the socket. While a drain retires silent connections it
// returns io.EOF at a message boundary, as if the client had closed.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		c.parked = c.atBoundary(len(p))
		c.mu.Unlock()

		n, err := c.socket.Read(p)

		c.mu.Lock()
		c.parked = false
		c.delivered += int64(n)
		if c.server.tls && c.state == http.StateNew {
			c.heard = time.Now()
		}
		kicked := c.kicked
		c.kicked = false
		if kicked {
			_ = c.socket.SetReadDeadline(c.wanted)
		}
		c.mu.Unlock()
		if !kicked || n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if !unreadBytes(c.socket) {
			c.server.retired.Add(1)
			return 0, io.EOF
		}
		// A request arrived in the very moment: it is answered like any other.
	}
}

// retire ends a connection that waits for a message. It reports whether this
// one did.
func (c *Conn) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.parked || c.kicked || c.closed {
		return false
	}
	if c.state == http.StateNew && time.Since(c.heard) < handshakePause {
		return false
	}
	c.kicked = true
	_ = c.socket.SetReadDeadline(past)
	return true
}

// SetReadDeadline is counted, and kept from undoing a retirement.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines++
	c.wanted = t
	if c.kicked {
		return nil
	}
	return c.socket.SetReadDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection and forgets it.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	err := c.socket.Close()
	if first {
		c.server.remove(c)
	}
	return err
}

// setState follows net/http's view of the connection (http.Server.ConnState).
func (c *Conn) setState(st http.ConnState) {
	c.mu.Lock()
	c.state = st
	c.deadlines, c.delivered = 0, 0
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
			c.requests = c.requests[:last]
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

// sight is what the drain sees of a connection at one moment.
type sight struct {
	hijacked bool
	silent   bool
	told     bool
	requests int
}

func (c *Conn) look() sight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sight{
		hijacked: c.state == http.StateHijacked,
		silent:   c.parked,
		told:     c.told,
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
	_ = c.Close()
	return cuts
}
