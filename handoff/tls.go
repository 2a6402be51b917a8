package handoff

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
)

// A TLS server is served over a listener of our own instead of with
// http.Server.ServeTLS, which clones the configuration, so that nobody can give it
// new session-ticket keys while it serves. "To use SetSessionTicketKeys, use
// Server.Serve with a TLS Listener instead" (net/http: Server.TLSConfig).

// ownTLSConfig gives srv a configuration that is ours to change: the service may use its
// own elsewhere.
func ownTLSConfig(srv *http.Server) error {
	if !certificates(srv.TLSConfig) {
		return errors.New("handoff: the TLS configuration has no certificate: set Certificates, GetCertificate or GetConfigForClient")
	}
	srv.TLSConfig = srv.TLSConfig.Clone()
	return nil
}

// offerProtocols sets the protocols that the handshake offers, as ServeTLS does
// (net/http: adjustNextProtos).
func offerProtocols(srv *http.Server) {
	_, http2 := srv.TLSNextProto["h2"]
	http1 := true
	if srv.Protocols != nil {
		http1, http2 = srv.Protocols.HTTP1(), srv.Protocols.HTTP2()
	}
	protos := slices.Clone(srv.TLSConfig.NextProtos)
	set := func(name string, want bool) {
		switch have := slices.Contains(protos, name); {
		case want && !have:
			protos = append(protos, name)
		case have && !want:
			protos = slices.DeleteFunc(protos, func(p string) bool { return p == name })
		}
	}
	set("h2", http2)
	set("http/1.1", http1)
	srv.TLSConfig.NextProtos = protos
}

// tlsAcceptor is a TLS listener as http.Server sees it. The handshake takes place
// in the connection's own goroutine.
type tlsAcceptor struct{ acceptor }

func (a tlsAcceptor) Accept() (net.Conn, error) {
	c, err := a.acceptor.Accept()
	if err != nil {
		return nil, err
	}
	if isOwn(c) {
		return c, nil
	}
	if t := a.server.tickets; t != nil {
		t.rotate(a.server.http.TLSConfig)
	}
	return tls.Server(c, a.server.http.TLSConfig), nil
}
