package handoff

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func tlsConfig(certs []tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12}
}

func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}
}

// What ServeTLS would negotiate is negotiated.
func TestTLSOffersWhatServeTLSDoes(t *testing.T) {
	certs, roots := testCertificate()
	only := func(h1, h2 bool) *http.Protocols {
		var p http.Protocols
		p.SetHTTP1(h1)
		p.SetHTTP2(h2)
		return &p
	}
	type next = map[string]func(*http.Server, *tls.Conn, http.Handler)
	for name, tt := range map[string]struct {
		protocols *http.Protocols
		next      next
		mine      []string // in the service's own configuration
		offer     []string // of the client
		want      string
	}{
		"both":                           {nil, nil, nil, []string{"h2", "http/1.1"}, "h2"},
		"client without HTTP/2":          {nil, nil, nil, []string{"http/1.1"}, "http/1.1"},
		"client without ALPN":            {nil, nil, nil, nil, ""},
		"HTTP/2 off":                     {nil, next{}, nil, []string{"h2", "http/1.1"}, "http/1.1"},
		"HTTP/2 off, though listed":      {nil, next{}, []string{"h2"}, []string{"h2", "http/1.1"}, "http/1.1"},
		"Protocols without HTTP/2":       {only(true, false), nil, nil, []string{"h2", "http/1.1"}, "http/1.1"},
		"Protocols without HTTP/1":       {only(false, true), nil, nil, []string{"http/1.1", "h2"}, "h2"},
		"Protocols against TLSNextProto": {only(true, true), next{}, nil, []string{"h2"}, "h2"},
		"the service's own order":        {nil, nil, []string{"http/1.1", "h2"}, []string{"h2", "http/1.1"}, "http/1.1"},
		"a protocol of the service's":    {nil, nil, []string{"mine"}, []string{"mine"}, "mine"},
	} {
		t.Run(name, func(t *testing.T) {
			server := func() *http.Server {
				config := tlsConfig(certs)
				config.NextProtos = tt.mine
				return &http.Server{
					Handler: ok, TLSConfig: config, Protocols: tt.protocols, TLSNextProto: maps.Clone(tt.next),
					ErrorLog: log.New(io.Discard, "", 0), // a client that leaves after the handshake
				}
			}
			negotiated := func(addr net.Addr) string {
				c := clientTLS(roots)
				c.NextProtos = tt.offer
				conn, err := tls.Dial("tcp", addr.String(), c)
				require.NoError(t, err)
				require.NoError(t, conn.Close())
				return conn.ConnectionState().NegotiatedProtocol
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			plain := server()
			done := make(chan error)
			go func() { done <- plain.ServeTLS(ln, "", "") }()
			require.Equal(t, tt.want, negotiated(ln.Addr()), "ServeTLS")
			require.NoError(t, plain.Close())
			require.ErrorIs(t, <-done, http.ErrServerClosed)

			srv := server()
			config := srv.TLSConfig
			r := serve(t, srv, "127.0.0.1:0")
			require.Equal(t, tt.want, negotiated(r.ln.Addr()))
			require.Equal(t, tt.mine, config.NextProtos, "the service's own is left alone")
			if tt.want != "h2" {
				return
			}
			tr := &http.Transport{TLSClientConfig: clientTLS(roots), ForceAttemptHTTP2: true}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get("https://" + r.ln.Addr().String())
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 2, resp.ProtoMajor)
			require.Equal(t, http.StatusOK, resp.StatusCode)
		})
	}
	_, err := NewServer(&http.Server{TLSConfig: &tls.Config{}, TLSNextProto: next{}}) //nolint:gosec // refused
	require.ErrorContains(t, err, "no certificate")
}
