package handoff

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDrainWaitsForTheEndOfAHandler that had hijacked its connection and has closed
// it: what it does last would be lost with the process.
func TestDrainWaitsForTheEndOfAHandler(t *testing.T) {
	closed, proceed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(done)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_ = conn.Close()
		close(closed)
		<-proceed
	})}, "127.0.0.1:0")
	c := r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-closed
	park(t, r)
	report := r.drain(t, DrainOptions{Timeout: time.Minute})
	select {
	case <-report:
		t.Fatal("the handler still runs")
	case <-time.After(50 * time.Millisecond):
	}
	close(proceed)
	<-report
	<-done
	require.Equal(t, Totals{Accepted: 1, Closed: 1}, r.Totals())

	// One that does not end is not waited for beyond the deadline.
	stuck := make(chan struct{})
	r = serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
		<-stuck
	})}, "127.0.0.1:0")
	t.Cleanup(func() { close(stuck) })
	c = r.dial(t)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, "the close", func() bool { return r.Totals().Closed == 1 })
	park(t, r)
	require.Empty(t, (<-r.drain(t, DrainOptions{Timeout: 20 * time.Millisecond})).Cut)
}

func TestCountsByState(t *testing.T) {
	hold, busy := make(chan struct{}), make(chan struct{}, 2)
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/hijack" {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				defer func() { _ = conn.Close() }()
			}
		}
		if q.URL.Path != "/" {
			busy <- struct{}{}
			<-hold
		}
	})}, "127.0.0.1:0")
	r.dial(t)
	idle, active, hijacked := r.dial(t), r.dial(t), r.dial(t)
	idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	idle.answer()
	active.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	hijacked.send("GET /hijack HTTP/1.1\r\nHost: x\r\n\r\n")
	<-busy
	<-busy
	until(t, "each state", func() bool {
		return r.Counts() == Counts{Conns: 4, Silent: 2, Hijacked: 1, Requests: 2, InFlight: 1, New: 1, Active: 1, Idle: 1}
	})
	close(hold)
	active.answer()
}

// TestBacklog fills an accept queue that nobody empties.
func TestBacklog(t *testing.T) {
	set := NewSet(none{}, nil, BindOptions{})
	t.Cleanup(func() { require.NoError(t, set.Close()) })
	a, err := ParseAddress("127.0.0.1:0")
	require.NoError(t, err)
	lns, err := set.Listen(a)
	require.NoError(t, err)
	waiting, limit, known := lns[0].Backlog()
	if !known {
		t.Skip("this system does not tell the length of an accept queue")
	}
	require.Zero(t, waiting)
	require.Positive(t, limit)
	for range 3 {
		c, err := net.Dial("tcp", lns[0].Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
	}
	until(t, "three connections wait", func() bool { n, _, _ := lns[0].Backlog(); return n == 3 })

	u, err := ParseAddress("unix:" + t.TempDir() + "/s")
	require.NoError(t, err)
	lns, err = set.Listen(u)
	require.NoError(t, err)
	_, _, known = lns[0].Backlog()
	require.False(t, known, "of a Unix socket the kernel does not tell it")
}

func TestBlobsOnALink(t *testing.T) {
	a, b := links(t)
	want := make([]byte, maxMessage+1) // no datagram takes it
	want[maxMessage] = 7
	require.NoError(t, a.SendBlob(Message{Type: Metrics, Want: true, Seq: 3}, want))
	m, err := b.Receive(time.Second)
	require.NoError(t, err)
	require.True(t, m.Want)
	require.Equal(t, uint64(3), m.Seq)
	got, err := m.Blob()
	require.NoError(t, err)
	require.Equal(t, want, got)

	require.NoError(t, a.Send(Message{Type: Metrics}))
	m, err = b.Receive(time.Second)
	require.NoError(t, err)
	_, err = m.Blob()
	require.ErrorContains(t, err, "0 descriptors instead of one")
	require.Error(t, a.SendBlob(Message{Type: Metrics}, make([]byte, MaxState+1)))
}
