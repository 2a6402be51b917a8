package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestToldToCloseIsNoFailure(t *testing.T) {
	for _, header := range []string{"Connection: close\r\n", "connection: x, Close\r\n"} {
		addr := scripted(t, each(func(a asked) string { return right(a, header) }))
		tally := run(t, Workload{Kind: Echo, Addr: addr, MaxRequests: 5})
		c := tally.Total()
		require.NoError(t, tally.Err())
		require.Equal(t, int64(5), c.ToldToClose)
		require.Equal(t, int64(5), c.Connects, "each request needs a connection of its own")
		require.Zero(t, c.Reconnects)
	}
}

func TestIdleCloseIsAReconnect(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"close": func(net.Conn) {},
		"reset": func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			hold := make(chan struct{})
			closed := make(chan struct{})
			addr := scripted(t, func(c net.Conn) {
				if a, ok := readAsked(bufio.NewReader(c)); ok {
					_, _ = io.WriteString(c, right(a, ""))
				}
				<-hold // until the client has read the answer
				end(c)
				_ = c.Close()
				closed <- struct{}{}
			})
			r, err := New(Workload{Kind: Echo, Addr: addr})
			require.NoError(t, err)
			w := r.workers[0]
			for range 3 {
				require.True(t, w.rest(t.Context()))
				w.request()
				hold <- struct{}{}
				<-closed // on the loopback, the FIN is there as well
			}
			require.True(t, w.rest(t.Context()))
			c := r.counters[0].snapshot()
			require.Equal(t, int64(3), c.Answered)
			require.Equal(t, int64(3), c.Reconnects)
			require.Zero(t, c.Failed())
			require.Nil(t, w.c)
			require.Equal(t, "reconnect", r.counters[0].exampleList()[0].What)
		})
	}
}

// A close that comes during a pause is noticed then, not at its end.
func TestCloseDuringAPause(t *testing.T) {
	client, server := pair(t)
	time.AfterFunc(10*time.Millisecond, func() { _ = server.Close() })
	start := time.Now()
	require.ErrorIs(t, client.rest(t.Context(), 10*time.Second), io.EOF)
	require.Less(t, time.Since(start), 5*time.Second)
}

func TestRest(t *testing.T) {
	client, server := pair(t)
	require.NoError(t, client.rest(t.Context(), 0))
	require.NoError(t, client.rest(t.Context(), time.Millisecond))

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	_ = client.rest(ctx, time.Minute) // returns

	_, err := io.WriteString(server, "x")
	require.NoError(t, err)
	require.ErrorIs(t, client.rest(t.Context(), 0), errSpoke)
	require.ErrorIs(t, client.rest(t.Context(), time.Millisecond), errSpoke)
	b, err := client.br.ReadByte()
	require.NoError(t, err)
	require.Equal(t, byte('x'), b, "looking takes nothing away")
	require.NoError(t, server.Close())
	require.ErrorIs(t, client.rest(t.Context(), 0), io.EOF)
}

func pair(t *testing.T) (*conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := dial(Addr{Network: "tcp", Address: ln.Addr().String()}, time.Now().Add(time.Second))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	server, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	return client, server
}

// TLS 1.3 sends session tickets after the handshake, and close_notify at the end: the
// first are not an answer, the second is a close.
func TestTLSIdle(t *testing.T) {
	certs := selfSigned(t)
	hold := make(chan struct{})
	closed := make(chan struct{})
	addr := scripted(t, func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{Certificates: certs.server})
		br := bufio.NewReader(tc)
		for range 3 {
			if a, ok := readAsked(br); ok {
				_, _ = io.WriteString(tc, right(a, ""))
			}
		}
		<-hold
		_ = tc.Close()
		closed <- struct{}{}
	})
	addr.TLS = certs.client
	r, err := New(Workload{Kind: Echo, Addr: addr})
	require.NoError(t, err)
	w := r.workers[0]
	for range 3 {
		require.True(t, w.rest(t.Context()))
		w.request()
	}
	c := r.counters[0].snapshot()
	require.Equal(t, int64(3), c.Answered, "%v", r.counters[0].exampleList())
	require.Equal(t, int64(1), c.Connects)
	require.Zero(t, c.Reconnects)
	hold <- struct{}{}
	<-closed
	require.True(t, w.rest(t.Context()))
	require.Equal(t, int64(1), r.counters[0].snapshot().Reconnects)
}

// A server that does not speak TLS, or ends in the handshake, loses the request.
func TestTLSHandshakeFails(t *testing.T) {
	addr := scripted(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 16<<10)) })
	addr.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // nothing to verify
	tally := run(t, Workload{Kind: Hello, Addr: addr, MaxRequests: 2})
	require.Equal(t, int64(2), tally.Total().Failed())
	require.Contains(t, tally.Examples[0].Error, "TLS handshake")
}

func TestMovedConnection(t *testing.T) {
	var n atomic.Int64
	addr := scripted(t, each(func(a asked) string {
		if n.Add(1) <= 2 {
			return right(a, "X-Pid: 10\r\nX-Generation: 1\r\n")
		}
		return right(a, "X-Pid: 11\r\nX-Generation: 2\r\n")
	}))
	tally := run(t, Workload{Kind: Echo, Addr: addr, MaxRequests: 5})
	c := tally.Total()
	require.NoError(t, tally.Err())
	require.Equal(t, int64(1), c.Moved)
	require.Equal(t, int64(1), c.Connects)
	require.Equal(t, map[int]int64{1: 2, 2: 3}, c.Generations)
}

// Stop lets the request at hand end, and ends a pause.
func TestStopCutsNothing(t *testing.T) {
	reached := make(chan struct{}, 8)
	addr := scripted(t, each(func(a asked) string {
		reached <- struct{}{}
		time.Sleep(50 * time.Millisecond)
		return right(a, "")
	}))
	r, err := New(
		Workload{Kind: Echo, Addr: addr, Conns: 4},
		Workload{Name: "pausing", Kind: Echo, Addr: addr, Conns: 4, Pause: time.Hour},
	)
	require.NoError(t, err)
	r.Start(t.Context())
	for range 4 {
		<-reached
	}
	tally := r.Stop()
	require.Zero(t, tally.Total().Failed(), "%s", tally)
	require.Equal(t, tally.Total().Sent, tally.Total().Answered)
	require.Equal(t, int64(4), tally.Workloads["echo"].Answered)
	require.ErrorContains(t, tally.Err(), `"pausing" has sent nothing`)
	require.Equal(t, tally, r.Stop(), "Stop may be called again")
}

func TestNewRefuses(t *testing.T) {
	addr := Addr{Network: "tcp", Address: "127.0.0.1:1"}
	for says, w := range map[string][]Workload{
		"no workload":     nil,
		"no kind":         {{Addr: addr}},
		"no address":      {{Kind: Echo}},
		"negative":        {{Kind: Echo, Addr: addr, Conns: -1}},
		"a WebSocket":     {{Kind: WebSocket, Addr: addr, NewConn: true}},
		"whole milli":     {{Kind: Slow, Addr: addr, Duration: time.Microsecond}},
		"name \"echo\"":   {{Kind: Echo, Addr: addr}, {Kind: Echo, Addr: addr}},
		"\"kind 99\" has": {{Kind: 99, Addr: addr}},
	} {
		_, err := New(w...)
		require.ErrorContains(t, err, says)
		require.False(t, strings.Contains(err.Error(), "%!"), err)
	}
}
