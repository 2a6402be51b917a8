//go:build integration

package upgrade_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestHTTP2IsDrainedWithGoAway upgrades under streams of one HTTP/2 client.
// Streams that cross the GOAWAY on the wire are refused by the protocol's own rule,
// and Go's client sends those again: only what the server had taken counts here.
func TestHTTP2IsDrainedWithGoAway(t *testing.T) {
	dir := t.TempDir()
	cert, key, client := certificate(t, dir)
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
	cmd.TLS = client
	p := start(t, cmd)
	tr := &http.Transport{TLSClientConfig: client.Clone(), ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var answered, failed atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for ctx.Err() == nil {
				q, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+p.Addr("https").Address+"/slow?ms=100", nil)
				if err == nil {
					var resp *http.Response
					if resp, err = tr.RoundTrip(q); err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
						if err == nil && (resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2) {
							t.Errorf("%s %s", resp.Proto, resp.Status)
						}
					}
				}
				if err != nil {
					failed.Add(1)
					t.Log(err)
					continue
				}
				answered.Add(1)
			}
		})
	}
	for i := range 10 {
		before := answered.Load()
		require.Eventually(t, func() bool { return answered.Load() > before+32 }, 20*time.Second, time.Millisecond)
		u := up(t, p)
		began := time.Now()
		gone(t, p, u.OldPID)
		require.Less(t, time.Since(began), 10*time.Second, "upgrade %d: the connections end with their streams", i)
	}
	cancel()
	group.Wait()
	stop(t, p)
	t.Logf("10 upgrades: %d streams answered, %d failed", answered.Load(), failed.Load())
	require.Zero(t, failed.Load())
}
