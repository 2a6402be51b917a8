package handoff

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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
	h2      *multiplexer

	leaving  atomic.Bool // the drain has begun: HTTP/1 responses say "Connection: close"
	tellOnce sync.Once
	retired  atomic.Int64 // silent connections that the drain closed

	loops sync.WaitGroup // accept loops

	mu    sync.Mutex // guards what follows
	conns map[*Conn]struct{}
	empty chan struct{} // closed when conns is empty; nil while nobody waits
}

// NewServer prepares srv. A non-nil srv.TLSConfig makes every listener of this
// server a TLS listener; it then must hold certificates, and HTTP/2 is offered
// unless srv.TLSNextProto is already set (the documented way to turn it off).
func NewServer(srv *http.Server) (*Server, error) {
	s := &Server{
		http: srv, handler: srv.Handler, tls: srv.TLSConfig != nil,
		conns: map[*Conn]struct{}{},
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
		return ctx
	}
	srv.ConnState = func(c net.Conn, st http.ConnState) {
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
	if s.tls && srv.TLSNextProto == nil {
		h2, err := newMultiplexer(srv, &s.retired)
		if err != nil {
			return nil, fmt.Errorf("handoff: set up HTTP/2: %w", err)
		}
		s.h2 = h2
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
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok {
		c.begin(r, time.Now())
		defer c.end(r)
	}
	if s.leaving.Load() && r.Header.Get("Upgrade") == "" && (s.h2 == nil || r.ProtoMajor < 2 || s.h2.lastResponses()) {
		// An upgraded connection is told through Leaving instead, HTTP/2 by GOAWAY.
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
	var err error
	if s.tls {
		// http.Server wants certificates in the arguments or in TLSConfig.
		err = s.http.ServeTLS(acceptor{ln, s}, "", "")
	} else {
		err = s.http.Serve(acceptor{ln, s})
	}
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
	return a.server.track(c), nil
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
	s.mu.Lock()
	delete(s.conns, c)
	if len(s.conns) == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
	s.mu.Unlock()
}

// whenEmpty returns a channel that is closed when no connection is left.
func (s *Server) whenEmpty() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.empty == nil {
		s.empty = make(chan struct{})
	}
	ch := s.empty
	if len(s.conns) == 0 {
		close(ch)
		s.empty = nil
	}
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

// Counts is a look at a server's connections.
type Counts struct {
	Conns    int // open, of any kind
	Silent   int // at a message boundary, waiting for the client
	Hijacked int // taken over by a handler: WebSockets, for example
	Requests int // being carried out
}

// Counts counts the connections as they are now.
func (s *Server) Counts() Counts {
	var n Counts
	for _, c := range s.snapshot() {
		v := c.look()
		n.Conns++
		n.Requests += v.requests
		if v.silent {
			n.Silent++
		}
		if v.hijacked {
			n.Hijacked++
		}
	}
	return n
}

// certificates tells whether a TLS configuration can serve.
func certificates(c *tls.Config) bool {
	return len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil
}
