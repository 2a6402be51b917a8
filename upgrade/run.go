package upgrade

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// Limits of the server that Run makes. IdleTimeout should be longer than that of
// a proxy in front, or the server closes connections that the proxy still uses.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
)

// Run serves handler on cfg's addresses and replaces the process on SIGUSR2. It
// returns nil after a graceful stop, and after an upgrade when this generation
// has drained. It is all that a service needs which has one handler and nothing
// to warm up; others use [New].
func Run(ctx context.Context, handler http.Handler, cfg Config) error {
	p, err := New(cfg)
	if err != nil {
		return err
	}
	if err := p.ServeHandler(handler); err != nil {
		return err
	}
	return p.Run(ctx)
}

// ServeHandler serves handler on the addresses of the process's Config, with its
// certificate if it has one.
func (p *Process) ServeHandler(handler http.Handler) error {
	addresses, err := p.cfg.Addresses()
	if err == nil && len(addresses) == 0 {
		err = errors.New("upgrade: no address to listen on: set Config.Addr, for example \":8080\"")
	}
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ErrorLog: log.New(errorLog{p.log}, "", 0),
	}
	if err == nil && p.cfg.TLSCertFile != "" {
		srv.TLSConfig, err = LoadTLS(p.cfg.TLSCertFile, p.cfg.TLSKeyFile)
	}
	if err != nil {
		p.abandon(err)
		return err
	}
	return p.Serve(srv, addresses...)
}

// errorLog takes what net/http has to say: handshakes that failed, for example.
type errorLog struct{ log zerolog.Logger }

func (l errorLog) Write(b []byte) (int, error) {
	l.log.Warn().Str("text", strings.TrimSpace(string(b))).Msg("http server")
	return len(b), nil
}

// LoadTLS reads a certificate with its chain and key, both PEM. The protocol
// minimum is TLS 1.2.
func LoadTLS(certFile, keyFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}
