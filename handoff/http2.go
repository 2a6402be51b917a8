package handoff

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"

	"golang.org/x/net/http2"
)

// multiplexer serves the HTTP/2 connections of a Server.
//
// golang.org/x/net/http2 rather than the copy inside net/http, because its GOAWAY
// can be sent apart from http.Server.Shutdown, which must not run while HTTP/1
// connections exist: the configuration is registered with a server of its own
// that has no connection, and shutting that one down reaches exactly the HTTP/2
// connections.
type multiplexer struct {
	goaway *http.Server
}

func newMultiplexer(srv *http.Server) (*multiplexer, error) {
	if !certificates(srv.TLSConfig) {
		return nil, errors.New("the TLS configuration has no certificate")
	}
	m := &multiplexer{goaway: &http.Server{TLSConfig: srv.TLSConfig.Clone()}}
	// Deprecated in favor of http.Server.Protocols, which has no GOAWAY of its own.
	//nolint:staticcheck // see above
	if err := http2.ConfigureServer(m.goaway, &http2.Server{IdleTimeout: srv.IdleTimeout}); err != nil {
		return nil, err
	}
	srv.TLSConfig.NextProtos = m.goaway.TLSConfig.NextProtos
	serve := m.goaway.TLSNextProto[http2.NextProtoTLS]
	srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		http2.NextProtoTLS: func(hs *http.Server, c *tls.Conn, h http.Handler) {
			if t := tracked(c); t != nil {
				t.mu.Lock()
				t.multiplexed = true
				t.mu.Unlock()
			}
			serve(hs, c, h)
		},
	}
	return m, nil
}

// stateChanged catches the connection that was in its handshake when the drain
// began: its first state comes after the http2 package knows it.
func (m *multiplexer) stateChanged(c *Conn, st http.ConnState, leaving bool) {
	if m != nil && leaving && st == http.StateIdle && c.isMultiplexed() {
		m.sendGoAway()
	}
}

// sendGoAway tells every HTTP/2 client to open no further stream; a second one
// to the same client is not sent. Each connection closes when its last stream
// has ended.
func (m *multiplexer) sendGoAway() {
	// This server has no connection to wait for, so Shutdown only sends.
	_ = m.goaway.Shutdown(context.Background())
}
