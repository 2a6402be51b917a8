//go:build integration

package upgrade_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// BenchmarkLatency measures how long requests take, on 64 connections that are in
// use, while 10,000 idle ones move to the next generation: from the signal until
// that one serves, its start included, beside the time before. p99-ratio is the
// quotient of the two.
//
//	go test -tags integration -run - -bench Latency -benchtime 1x -count 6 ./upgrade | benchstat -
func BenchmarkLatency(b *testing.B) {
	const idle, busy = 10_000, 64
	// Go raises the soft limit to the hard one when it starts.
	var lim syscall.Rlimit
	require.NoError(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	if lim.Cur < idle+1024 {
		b.Skipf("RLIMIT_NOFILE is %d: too low for %d connections", lim.Cur, idle)
	}
	binary := build(b, ".")
	metrics := map[string]float64{}
	for b.Loop() {
		b.StopTimer()
		p := start(b, load.Serve(binary, b.TempDir(), "127.0.0.1:0"))
		conns := idlers(b, p.Addr("http"), idle)
		r := loadtest.Start(b, load.Workload{Kind: load.Echo, Conns: busy, Addr: p.Addr("http"), Pause: 20 * time.Millisecond})
		loadtest.Flowing(b, r, 200*busy)
		b.StartTimer()

		r.SetPhase(load.During)
		u := up(b, p)
		r.SetPhase(load.After)

		b.StopTimer()
		gone(b, p, u.OldPID)
		loadtest.Flowing(b, r, busy)
		tally := r.Stop()
		require.NoError(b, tally.Err())
		require.Zero(b, tally.Total().Reconnects)
		for _, c := range conns {
			_ = c.Close()
		}
		stop(b, p)
		l := tally.Total().Latency
		ms := func(p load.Phase, q float64) float64 { return float64(l[p].Quantile(q)) / float64(time.Millisecond) }
		metrics["steady-p50-ms"] += ms(load.Before, 0.5)
		metrics["steady-p99-ms"] += ms(load.Before, 0.99)
		metrics["moving-p50-ms"] += ms(load.During, 0.5)
		metrics["moving-p99-ms"] += ms(load.During, 0.99)
		metrics["p99-ratio"] += ms(load.During, 0.99) / ms(load.Before, 0.99)
		b.StartTimer()
	}
	for name, sum := range metrics {
		b.ReportMetric(sum/float64(b.N), name)
	}
}

// idlers makes connections and has a request answered on each.
func idlers(b *testing.B, addr load.Addr, n int) []net.Conn {
	b.Helper()
	conns := make([]net.Conn, 0, n)
	b.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	answer := make([]byte, 4096)
	for range n {
		c, err := net.Dial(addr.Network, addr.Address)
		require.NoError(b, err)
		conns = append(conns, c)
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(b, err)
		_, err = c.Read(answer)
		require.NoError(b, err)
	}
	return conns
}
