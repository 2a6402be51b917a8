package handoff

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves an [http.Server] over tracked connections.
//
// It takes over the Handler, ConnState and ConnContext of the http.Server, and
// calls what was there. Nobody else may call Serve, Shutdown or Close on it.
type Server struct {
	http    *http.Server
	handler http.Handler
	tls     bool
	h2c     bool // HTTP/2 without TLS is on: some connections speak it
	h2      *multiplexer
	tickets *Tickets // nil: crypto/tls makes the keys, or the service

	leaving  atomic.Bool            // the drain has begun: HTTP/1 responses say "Connection: close"
	mover    atomic.Pointer[Sender] // where connections move to; nil while no move is on
	tellOnce sync.Once

	loops    sync.WaitGroup // accept loops
	arrivals *arrivals      // connections that come from another process

	mu    sync.Mutex // guards what follows
	conns map[*Conn]struct{}
	tails map[*Conn]struct{} // gone, and a handler has not returned: one that had hijacked it
	empty chan struct{}      // closed when both are empty; nil while nobody waits
	ended [fates]int         // connections by how they ended, since the last census
	total Totals
}

// fate is how a connection ended here.
type fate int

const (
	fateClosed  fate = iota // in good order, by the client or by us
	fateMoved               // another process has it
	fateRetired             // closed because nothing came
	fateDropped             // cut by the drain deadline
	fates
)

// NewServer prepares srv. A non-nil srv.TLSConfig makes every listener of this
// server a TLS listener; it then must hold certificates, and HTTP/2 is offered
// unless srv.TLSNextProto is already set (the documented way to turn it off). It is
// replaced by a copy, which is the one that serves: SetSessionTicketKeys on
// srv.TLSConfig works while it does.
func NewServer(srv *http.Server) (*Server, error) {
	s := &Server{
		http: srv, handler: srv.Handler, tls: srv.TLSConfig != nil,
		h2c:   srv.Protocols != nil && srv.Protocols.UnencryptedHTTP2(),
		conns: map[*Conn]struct{}{}, tails: map[*Conn]struct{}{}, arrivals: newArrivals(),
	}
	if s.handler == nil {
		s.handler = http.DefaultServeMux
	}
	srv.Handler = s

	connContext, connState := srv.ConnContext, srv.ConnState
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if connContext != nil {
			ctx = connContext(ctx, c)
		}
		if t := tracked(c); t != nil {
			ctx = context.WithValue(ctx, connKey{}, t)
		}
		if isOwn(c) {
			ctx = context.WithValue(ctx, ownKey{}, true)
		}
		return ctx
	}
	srv.ConnState = func(c net.Conn, st http.ConnState) {
		if isOwn(c) {
			return // no client's: nobody is to count it
		}
		if h, ok := c.(*h2Conn); ok {
			h.setState(st)
			c = h.Conn // the connection by which the hooks know it
		}
		if t := tracked(c); t != nil {
			t.setState(st)
		}
		if connState != nil {
			connState(c, st)
		}
	}
	if s.tls {
		if err := ownTLSConfig(srv); err != nil {
			return nil, err
		}
	}
	if s.tls && srv.TLSNextProto == nil {
		h2, err := newMultiplexer(srv)
		if err != nil {
			return nil, fmt.Errorf("handoff: set up HTTP/2: %w", err)
		}
		s.h2 = h2
	}
	if s.tls {
		offerProtocols(srv)
	}
	return s, nil
}

type connKey struct{}

// Leaving returns a channel that is closed when it is time for the connection
// of this request's context to end, because the process is being replaced or
// stopped. Handlers that run long watch it: a stream ends with a last message,
// a WebSocket with status 1012 (Service Restart). Requests are told as soon as the
// drain begins; hijacked connections one after the other, so that their clients
// do not all come back at once. What has not ended at the drain deadline is cut.
//
// The channel is nil, and never ready, for a context that is not a request's.
func Leaving(ctx context.Context) <-chan struct{} {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		return c.leave()
	}
	return nil
}

// ServeHTTP implements [http.Handler] around the handler that the http.Server
// was given. It allocates nothing while no drain runs.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := r.Context().Value(connKey{}).(*Conn)
	if ok {
		c.begin(r, time.Now())
		defer c.end(r)
	}
	// A connection that moves when this response is written is not told to go, an
	// upgraded one is told through Leaving, and HTTP/2 by GOAWAY.
	if s.leaving.Load() && r.Header.Get("Upgrade") == "" && (!ok || !c.moves()) && !s.h2.speaks(r) {
		w.Header().Set("Connection", "close")
	}
	s.handler.ServeHTTP(w, r)
}

// Start begins to accept from ln, in a goroutine that [Server.Wait] waits for.
// failed is called if the accept loop ends for another reason than ln's Close.
func (s *Server) Start(ln *Listener, failed func(error)) {
	ln.begin()
	s.loops.Go(func() {
		defer ln.end()
		if err := s.accept(ln); err != nil {
			failed(fmt.Errorf("handoff: accept on %s: %w", ln, err))
		}
	})
}

func (s *Server) accept(ln *Listener) error {
	a := acceptor{ln, s}
	var inner net.Listener = a
	if s.tls {
		inner = tlsAcceptor{a}
	}
	err := s.http.Serve(inner)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Wait returns when every accept loop has ended.
func (s *Server) Wait() { s.loops.Wait() }

// acceptor is a listener as http.Server sees it.
type acceptor struct {
	*Listener
	server *Server
}

func (a acceptor) Accept() (net.Conn, error) {
	c, err := a.accept()
	if err != nil {
		return nil, err
	}
	if !isOwn(c) {
		a.server.accepted()
	}
	return a.server.track(c, a.Name()), nil
}

// Adopt makes the server take connections from other processes, until
// [Server.CloseArrivals].
func (s *Server) Adopt() {
	s.loops.Go(func() { _ = s.http.Serve(s.arrivals) })
}

// CloseArrivals takes no more connections from other processes.
func (s *Server) CloseArrivals() { _ = s.arrivals.Close() }

// logf writes where net/http does.
func (s *Server) logf(format string, args ...any) {
	if s.http.ErrorLog != nil {
		s.http.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

func (s *Server) add(c *Conn) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if s.leaving.Load() {
		c.tellToLeave()
	}
}

func (s *Server) remove(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.ended[c.fate]++
	s.total.end(c.fate)
	if len(c.requests) > 0 {
		s.tails[c] = struct{}{}
	}
	s.wake()
}

// forget is told when the handlers of a connection that is gone have returned. The
// caller holds the connection's lock.
func (s *Server) forget(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tails, c)
	s.wake()
}

// wake tells who waits that nothing is left. The caller holds mu.
func (s *Server) wake() {
	if len(s.conns)+len(s.tails) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// whenEmpty returns a channel that is closed when no connection is left, and no
// handler of one.
func (s *Server) whenEmpty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	ch := s.empty
	s.wake()
	return ch
}

func (s *Server) snapshot() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// Census begins the account of an upgrade: it counts the connections, and from
// now on how each of them ends. The listeners must have been parked.
func (s *Server) Census() Account {
	s.mu.Lock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.ended = [fates]int{}
	s.mu.Unlock()
	a := Account{Open: len(conns)}
	for _, c := range conns {
		v := c.look()
		a.Requests += v.requests
		if v.hijacked {
			a.Hijacked++
		}
	}
	return a
}

// endings counts the connections by how they ended, since the last census.
func (s *Server) endings() [fates]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// Settle is the part of the account that says what became of the connections since
// the census.
func (s *Server) Settle() Account {
	n := s.endings()
	return Account{Closed: n[fateClosed], Moved: n[fateMoved], Retired: n[fateRetired], Dropped: n[fateDropped]}
}

// certificates tells whether a TLS configuration can serve.
func certificates(c *tls.Config) bool {
	return len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil
}
