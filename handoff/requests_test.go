package handoff

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestsTheLongestFirst(t *testing.T) {
	held := make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/taken" {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				defer func() { _ = c.Close() }()
			}
		}
		<-held
	})}, "127.0.0.1:0")
	require.Empty(t, r.Requests(10))

	paths := []string{"/a?token=secret", "/b", "/taken", "/c"}
	for i, path := range paths {
		r.dial(t).send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		until(t, "it runs", func() bool { return r.Counts().Requests == i+1 })
	}
	until(t, "it is hijacked", func() bool { return r.Counts().Hijacked == 1 })
	all := r.Requests(10)
	require.Len(t, all, 4)
	var shown []string
	for i, q := range all {
		require.Equal(t, "GET", q.Method)
		require.Equal(t, q.Path == "/taken", q.Hijacked)
		require.Positive(t, q.Age)
		require.True(t, i == 0 || q.Age <= all[i-1].Age)
		shown = append(shown, q.Path)
	}
	require.Equal(t, []string{"/a", "/b", "/taken", "/c"}, shown, "without the query")
	two := r.Requests(2)
	require.Equal(t, []string{"/a", "/b"}, []string{two[0].Path, two[1].Path})
	require.Empty(t, r.Requests(0))
	close(held)
	until(t, "all have ended", func() bool { return len(r.Requests(10)) == 0 })
}

// BenchmarkRequests is what a look costs while ten thousand requests run.
func BenchmarkRequests(b *testing.B) {
	s := &Server{conns: map[*Conn]struct{}{}}
	now := time.Now()
	for i := range 10_000 {
		c := &Conn{server: s}
		c.requests = []request{{method: "GET", path: fmt.Sprint("/", i), began: now.Add(-time.Duration(i%977) * time.Millisecond)}}
		s.conns[c] = struct{}{}
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Requests(20)
	}
}
