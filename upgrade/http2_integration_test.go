//go:build integration

package upgrade_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/holdfast-go/holdfast/routes/load"
)

// streams counts what becomes of the streams of HTTP/2 clients.
type streams struct {
	t                               *testing.T
	base                            string
	sent, answered, refused, failed atomic.Int64
}

// once sends a request with a body that cannot be read again: of what has reached
// the wire, the client repeats nothing (http2: shouldRetryRequest).
func (s *streams) once(client http.RoundTripper, method, path string, body []byte) {
	q, err := http.NewRequestWithContext(context.Background(), method, s.base+path, io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		s.t.Error(err)
		return
	}
	q.ContentLength = int64(len(body))
	if q.GetBody != nil {
		s.t.Error("the body can be read again")
	}
	s.sent.Add(1)
	err = s.exchange(client, q, body)
	switch {
	case err == nil:
		s.answered.Add(1)
		return
	case strings.Contains(err.Error(), "GOAWAY"), strings.Contains(err.Error(), "REFUSED_STREAM"):
		s.refused.Add(1)
	default:
		s.failed.Add(1)
	}
	s.t.Log(err)
}

func (s *streams) exchange(client http.RoundTripper, q *http.Request, body []byte) error {
	resp, err := client.RoundTrip(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if q.Method == http.MethodPost && !bytes.Equal(got, body) || resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		return fmt.Errorf("%s %s, %d bytes", resp.Proto, resp.Status, len(got))
	}
	return nil
}

func http2Client(t *testing.T, conf *tls.Config) http.RoundTripper {
	// Deprecated for http.Transport, which has a loop of its own that repeats requests.
	tr := &http2.Transport{TLSClientConfig: conf.Clone()} //nolint:staticcheck // see above
	t.Cleanup(tr.CloseIdleConnections)                    //nolint:staticcheck // see above
	return tr
}

// TestI2_NoStreamIsRefused upgrades under the streams of several HTTP/2 clients
// that repeat nothing. One of them keeps its connection idle during each upgrade.
func TestI2_NoStreamIsRefused(t *testing.T) {
	const upgrades, clients, workers = 20, 4, 16
	dir := t.TempDir()
	cert, key, conf := certificate(t, dir)
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
	cmd.TLS = conf
	p := start(t, cmd)
	s := &streams{t: t, base: "https://" + p.Addr("https").Address}

	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })
	for i := range clients {
		client := http2Client(t, conf)
		for j := range workers {
			method, path, body := http.MethodPost, "/echo", bytes.Repeat([]byte{byte(j)}, 1+i*j*1000)
			if j%4 == 0 {
				method, path = http.MethodGet, "/slow?ms=100"
			}
			group.Go(func() {
				for ctx.Err() == nil {
					s.once(client, method, path, body)
				}
			})
		}
	}
	idle := http2Client(t, conf)
	for i := range upgrades {
		s.once(idle, http.MethodPost, "/echo", []byte("before"))
		before := s.answered.Load()
		require.Eventually(t, func() bool {
			return s.answered.Load() > before+10*clients*workers || s.answered.Load() < s.sent.Load()-1000
		},
			20*time.Second, time.Millisecond, "the load does not flow")
		u := up(t, p)
		began := time.Now()
		gone(t, p, u.OldPID)
		require.Less(t, time.Since(began), 10*time.Second, "upgrade %d: the connections end with their streams", i)
	}
	cancel()
	group.Wait()
	stop(t, p)
	t.Logf("%d upgrades: %d streams sent, %d answered, %d refused, %d failed",
		upgrades, s.sent.Load(), s.answered.Load(), s.refused.Load(), s.failed.Load())
	require.Zero(t, s.refused.Load())
	require.Zero(t, s.failed.Load())
	require.Equal(t, s.sent.Load(), s.answered.Load())
}
