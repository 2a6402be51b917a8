package handoff

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, errors.New("too long"))
	t.Cleanup(cancel)
	return ctx
}

func TestAsk(t *testing.T) {
	var own, others, states atomic.Int32
	release := make(chan struct{})
	certs, _ := testCertificate()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if Own(r.Context()) {
			own.Add(1)
		} else {
			others.Add(1)
		}
		switch r.URL.Path {
		case "/sick":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/hangs":
			<-release
		case "/long":
			_, _ = w.Write(make([]byte, 10*maxOwnAnswer))
		}
	})
	for name, srv := range map[string]*http.Server{
		"plain": {Handler: mux},
		"TLS":   {Handler: mux, TLSConfig: tlsConfig(certs)},
	} {
		t.Run(name, func(t *testing.T) {
			own.Store(0)
			srv.ConnState = func(net.Conn, http.ConnState) { states.Add(1) }
			r := serve(t, srv, "127.0.0.1:0")
			ask := func(path string) error { return r.Ask(within(t, 5*time.Second), r.ln, path) }
			for range 20 {
				require.NoError(t, ask("/"))
			}
			require.EqualValues(t, 20, own.Load())
			require.NoError(t, ask("/unknown"), "whatever it says")
			require.NoError(t, ask("/long"))
			require.NoError(t, ask(""))
			require.EqualValues(t, 22, own.Load(), "net/http has answered the last one")
			require.ErrorContains(t, ask("/sick"), "answers /sick with status 503")
			require.ErrorContains(t, r.Ask(within(t, 50*time.Millisecond), r.ln, "/hangs"), "does not answer: too long")

			// A parked accept loop does not take connections, and is no reason to fail.
			require.NoError(t, r.ln.Park(within(t, 5*time.Second)))
			r.Adopt()
			require.NoError(t, ask("/"))
			require.NoError(t, r.ln.Unpark())
			require.NoError(t, ask("/"))

			require.Zero(t, states.Load(), "nobody counts these connections")
			require.Zero(t, others.Load())
			require.Zero(t, r.Counts())
			require.Zero(t, r.Totals())
			require.NoError(t, r.ln.Close())
			r.CloseArrivals()
			require.ErrorIs(t, ask("/"), net.ErrClosed)
		})
	}
	close(release)
}

// A dead accept loop is noticed; what was offered to it does not trouble the next one.
func TestAskADeadAcceptLoop(t *testing.T) {
	set := NewSet(none{}, nil, BindOptions{})
	lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	s, err := NewServer(&http.Server{Handler: ok})
	require.NoError(t, err)
	lns[0].begin() // never comes back to Accept
	require.ErrorContains(t, s.Ask(within(t, 50*time.Millisecond), lns[0], "/"), "does not take connections: too long")
	lns[0].end()
	s.Start(lns[0], func(error) {})
	r := &rig{s, lns[0]}
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.br, nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, c.Close())
	require.NoError(t, set.Close())
	s.Wait()
}

// Neither a queue that never ends nor parks in between make the server seem dead, and
// no client notices.
func TestAskUnderLoad(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	r.Adopt()
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 16)
	for range 8 {
		go func() {
			for ctx.Err() == nil {
				if err := once(r.ln.Addr().String()); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	go func() {
		for ctx.Err() == nil {
			if err := errors.Join(r.ln.Park(ctx), r.ln.Unpark()); err != nil && ctx.Err() == nil {
				failed <- err
			}
		}
		failed <- nil
	}()
	for range 300 {
		require.NoError(t, r.Ask(within(t, 10*time.Second), r.ln, "/"))
	}
	cancel()
	for range 9 {
		require.NoError(t, <-failed)
	}
	_ = r.ln.Unpark()
}

// once is one request on a connection of its own.
func once(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	_, err = io.ReadAll(c)
	return err
}
