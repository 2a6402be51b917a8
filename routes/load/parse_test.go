package load

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What the parser takes for an answer, net/http must take for the same one.
func FuzzReadResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\": \r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 503 \r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
	} {
		f.Add([]byte(seed))
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readResponse(bufio.NewReader(bytes.NewReader(data)), nil, limit)
		if err != nil {
			require.NotEqual(t, Other, classOf(err), err)
			return
		}
		require.LessOrEqual(t, len(got.body), limit)
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(data)), &http.Request{Method: "GET"}) //nolint:bodyclose // it is in memory
		if err != nil {
			return // stricter than we are, about header names for instance
		}
		body, err := io.ReadAll(want.Body)
		require.NoError(t, err)
		require.Equal(t, want.StatusCode, got.status)
		require.Equal(t, string(body), string(got.body))
	})
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.record(time.Duration(i+1) * time.Millisecond)
	}
	l := h.snapshot()
	require.Equal(t, int64(1000), l.Count())
	require.Equal(t, time.Second, l.Max())
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		got := l.Quantile(q)
		require.GreaterOrEqual(t, got, want)
		require.LessOrEqual(t, float64(got), float64(want)*1.04)
	}
	require.Zero(t, Latency{}.Quantile(0.5))
	sum := l.Add(l).Add(Latency{})
	require.Equal(t, int64(2000), sum.Count())
	require.Equal(t, l.Quantile(0.5), sum.Quantile(0.5))
	require.Equal(t, int64(1000), l.Count(), "Add changes nothing")
}

// Every duration falls into a bucket that ends at or after it, and the one before it
// ends before it.
func TestBuckets(t *testing.T) {
	for d := time.Duration(0); d < time.Hour; d += d/50 + 700*time.Nanosecond {
		i := bucketOf(d)
		if i < buckets-1 {
			require.LessOrEqual(t, d, bucketEnd(i))
		}
		if i > 0 {
			require.Greater(t, d, bucketEnd(i-1))
		}
	}
}

func TestPhases(t *testing.T) {
	addr := scripted(t, each(func(a asked) string { return right(a, "") }))
	r, err := New(Workload{Kind: Echo, Addr: addr})
	require.NoError(t, err)
	w := r.workers[0]
	for _, p := range []Phase{Before, During, During, After} {
		r.SetPhase(p)
		w.request()
	}
	w.hangUp()
	got := r.counters[0].snapshot().Latency
	require.Equal(t, [3]int64{1, 2, 1}, [3]int64{got[0].Count(), got[1].Count(), got[2].Count()})
}

func TestTallyAdd(t *testing.T) {
	addr := scripted(t, each(func(a asked) string { return right(a, "X-Generation: 2\r\nX-Pid: 1\r\n") }))
	a := run(t, Workload{Kind: Echo, Addr: addr, MaxRequests: 3})
	b := run(t, Workload{Kind: Echo, Addr: addr, MaxRequests: 4})
	sum := Tally{}.Add(a).Add(b)
	require.NoError(t, sum.Err())
	require.Equal(t, int64(7), sum.Total().Sent)
	require.Equal(t, map[int]int64{2: 7}, sum.Workloads["echo"].Generations)
	require.Equal(t, int64(3), a.Total().Sent)
	seen := make(map[string]bool)
	for id := range sum.IDs() {
		seen[id] = true
	}
	require.Len(t, seen, 7, "ids are unique over runs")
	require.Error(t, Tally{}.Err())
}

// Bodies differ between requests, and are the same when made again.
func TestFiller(t *testing.T) {
	a := message(nil, "id", 1, 1, 100)
	require.Len(t, a, 100)
	require.Equal(t, a, message(nil, "id", 1, 1, 100))
	require.NotEqual(t, a, message(nil, "id", 1, 2, 100))
	require.NotEqual(t, a, message(nil, "id", 2, 1, 100))
	require.Equal(t, "id\n", string(message(nil, "id", 1, 1, 0)))
}
