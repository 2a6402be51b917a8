package handoff

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// multiplexer serves the HTTP/2 connections of a Server.
//
// golang.org/x/net/http2 rather than the copy inside net/http, because it serves a
// net.Conn of ours, which sees the frames. Its own graceful shutdown is not used:
// that sends one GOAWAY with the last stream it knows, and so refuses every stream
// that is on the wire.
type multiplexer struct {
	conf *http2.Server //nolint:staticcheck // deprecated for http.Server, which serves no net.Conn of ours

	leaving atomic.Bool // the drain has begun
	late    atomic.Bool // and the time for silent connections is over

	mu    sync.Mutex // guards what follows
	conns map[*h2Conn]struct{}
}

func newMultiplexer(srv *http.Server) (*multiplexer, error) {
	//nolint:staticcheck // as above
	m := &multiplexer{conf: &http2.Server{}, conns: map[*h2Conn]struct{}{}}
	// A server of its own that serves nothing: this one checks the TLS configuration
	// and completes both.
	scratch := &http.Server{TLSConfig: srv.TLSConfig.Clone(), IdleTimeout: srv.IdleTimeout, ReadTimeout: srv.ReadTimeout}
	//nolint:staticcheck // as above
	if err := http2.ConfigureServer(scratch, m.conf); err != nil {
		return nil, err
	}
	srv.TLSConfig.NextProtos = scratch.TLSConfig.NextProtos
	srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){http2.NextProtoTLS: m.serve}
	return m, nil
}

// serve carries out one connection after its handshake (http.Server.TLSNextProto).
func (m *multiplexer) serve(srv *http.Server, tc *tls.Conn, h http.Handler) {
	if t := tracked(tc); t != nil {
		t.mu.Lock()
		t.multiplexed = true
		t.mu.Unlock()
	}
	// What net/http passes down has the connection's context behind this method
	// (net/http: initALPNRequest).
	var ctx context.Context
	if b, ok := h.(interface{ BaseContext() context.Context }); ok {
		ctx = b.BaseContext()
	}
	c := newH2Conn(m, tc)
	m.mu.Lock()
	m.conns[c] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.conns, c)
		m.mu.Unlock()
		c.end()
	}()
	//nolint:staticcheck // as above
	m.conf.ServeConn(c, &http2.ServeConnOpts{Context: ctx, Handler: h, BaseConfig: srv})
}

// tell begins the drain: every client is asked to open no further stream.
func (m *multiplexer) tell() {
	m.leaving.Store(true)
	m.step(false)
}

// step does what is due on each connection; late says that the window for silent
// connections has ended. It never waits for a client.
func (m *multiplexer) step(late bool) {
	if late {
		m.late.Store(true)
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.step(now, late)
	}
}

// speaks tells whether a response belongs to a connection that GOAWAY tells to go.
// When the time is over and its client still uses it, "Connection: close" makes http2
// send the final one (http2: responseWriterState.writeChunk).
func (m *multiplexer) speaks(r *http.Request) bool {
	return m != nil && r.ProtoMajor == 2 && !m.late.Load()
}
