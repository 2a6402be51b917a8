package handoff

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// long is a drain in which only acknowledgements end a connection.
var long = DrainOptions{Timeout: time.Minute, SilentAfter: 50 * time.Second, SilentUntil: 55 * time.Second}

func (r *rig) drain(t *testing.T, o DrainOptions) <-chan DrainReport {
	t.Helper()
	park(t, r)
	done := make(chan DrainReport, 1)
	go func() { done <- r.Drain(context.Background(), o) }()
	until(t, "drain begins", r.leaving.Load)
	return done
}

// onlyH2 is the one HTTP/2 connection.
func (r *rig) onlyH2(t *testing.T) *h2Conn {
	t.Helper()
	r.h2.mu.Lock()
	defer r.h2.mu.Unlock()
	require.Len(t, r.h2.conns, 1)
	for c := range r.h2.conns {
		return c
	}
	return nil
}

func TestI2_StreamsAfterTheFirstGoAwayAreAnswered(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	r := serve(t, &http.Server{Handler: ok, TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	require.Equal(t, "ok", h.answered(1))
	done := r.drain(t, long)

	h.told(1)
	require.Equal(t, []uint32{maxStream}, h.goAways)
	h.ask(3, "/") // was on the wire
	require.Equal(t, "ok", h.answered(3))
	h.ack(1)
	h.ask(5, "/") // was decided before the GOAWAY was read
	require.Equal(t, "ok", h.answered(5))
	h.ask(7, "/")
	require.Equal(t, "ok", h.answered(7))

	h.told(2)
	require.Equal(t, []uint32{maxStream, 7}, h.goAways)
	require.Empty(t, done, "the connection waits for the client")
	h.ack(2)
	h.closed()
	report := <-done
	require.Equal(t, 1, report.Retired)
	require.Zero(t, report.Dropped)
	require.Empty(t, report.Cut)
}

func TestI2_AnOpenStreamKeepsItsConnection(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	entered, leave := make(chan struct{}), make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/slow" {
			close(entered)
			<-Leaving(q.Context())
			<-leave
		}
		_, _ = io.WriteString(w, "ok")
	}), TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/slow")
	<-entered
	done := r.drain(t, long)
	h.told(1)
	h.ack(1)
	c := r.onlyH2(t)
	until(t, "acknowledged", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.farewell == told && c.unacked == 0
	})
	c.step(time.Now().Add(time.Hour), true) // however long it takes
	h.ask(3, "/")
	require.Equal(t, "ok", h.answered(3))
	close(leave)
	require.Equal(t, "ok", h.answered(1))
	h.told(2)
	require.Equal(t, []uint32{maxStream, 3}, h.goAways)
	require.NoError(t, h.Close()) // as most clients do
	report := <-done
	require.Equal(t, 1, report.Start.Requests)
	require.Zero(t, report.Retired)
	require.Zero(t, report.Dropped)
}

// A client that has connected when the drain begins still gets its first request
// answered, and learns with it that there is no second; one that asks nothing learns
// it after a while.
func TestI2_ConnectionThatWasInItsHandshake(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	r := serve(t, &http.Server{Handler: ok, TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	a, b := r.dial(t), r.dial(t)
	until(t, "both are accepted", func() bool { return r.Counts().Conns == 2 })
	done := r.drain(t, long)
	asks, waits := newH2Client(t, a, roots), newH2Client(t, b, roots)
	asks.ask(1, "/")
	require.Equal(t, "ok", asks.answered(1))
	for h, last := range map[*h2Client]uint32{asks: 1, waits: 0} {
		h.told(1)
		h.ack(1)
		h.told(2)
		require.Equal(t, []uint32{maxStream, last}, h.goAways)
		h.ack(2)
		h.closed()
	}
	require.Equal(t, 2, (<-done).Retired)
}

func TestClientThatNeverAcknowledges(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	r := serve(t, &http.Server{Handler: ok, TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	require.Equal(t, "ok", h.answered(1))
	done := r.drain(t, DrainOptions{Timeout: time.Minute, SilentUntil: 300 * time.Millisecond})
	h.told(1)
	h.ask(3, "/")
	require.Equal(t, "ok", h.answered(3))
	h.told(2)
	require.Equal(t, []uint32{maxStream, 3}, h.goAways)
	h.closed()
	report := <-done
	require.Equal(t, 1, report.Retired)
	require.Zero(t, report.Dropped)
	require.GreaterOrEqual(t, report.Duration, 300*time.Millisecond, "not before the window ends")
}

// A client that goes on as if nothing had been said is refused only when the time
// for silent connections is over, by http2's own GOAWAY.
func TestClientThatDoesNotListen(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	r := serve(t, &http.Server{Handler: ok, TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	require.Equal(t, "ok", h.answered(1))
	done := r.drain(t, DrainOptions{Timeout: time.Minute, SilentUntil: 300 * time.Millisecond})
	next := uint32(3)
	for ; len(h.goAways) < 2; next += 2 {
		h.ask(next, "/")
		require.Equal(t, "ok", h.answered(next))
	}
	require.Equal(t, []uint32{maxStream, next - 2}, h.goAways)
	h.closed()
	require.Zero(t, (<-done).Dropped)
}

// A client that does not read at all is cut by the deadline, and nothing waits for it.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for b := make([]byte, 1<<16); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}), TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	until(t, "the response begins", func() bool { return r.Counts().Requests == 1 })
	report := <-r.drain(t, DrainOptions{Timeout: 500 * time.Millisecond, SilentUntil: 400 * time.Millisecond})
	require.Len(t, report.Cut, 1)
	require.Equal(t, 1, report.Dropped)
}

// What http2 has said is not taken back.
func TestGoAwayOfTheHandlerIsTheLast(t *testing.T) {
	t.Parallel()
	certs, roots := testCertificate()
	leave := make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).Flush()
		<-leave
		_, _ = io.WriteString(w, "ok")
	}), TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	h.until("GOAWAY", func() bool { return len(h.goAways) == 1 })
	done := r.drain(t, long)
	close(leave)
	require.Equal(t, "ok", h.answered(1))
	h.closed()
	require.Equal(t, []uint32{1}, h.goAways)
	require.Empty(t, h.pings)
	require.Zero(t, (<-done).Dropped)
}

// Large responses are on their way while the GOAWAY is put between their frames.
func TestI2_GoAwayLeavesResponsesIntact(t *testing.T) {
	certs, roots := testCertificate()
	const size = 8 << 20 // beyond what the socket's buffers hold
	body := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(body)
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for b := body; len(b) > 0; { // writes of odd sizes: frames end anywhere
			n := min(len(b), 1+len(b)%40961)
			if _, err := w.Write(b[:n]); err != nil {
				t.Error(err)
				return
			}
			b = b[n:]
		}
	}), TLSConfig: tlsConfig(certs)}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	const streams = 4
	for i := range uint32(streams) {
		h.ask(2*i+1, "/")
	}
	h.until("the responses begin", func() bool { return h.streams[1].body.Len() > 0 })
	done := r.drain(t, long)
	h.told(1)
	got := 0
	for _, s := range h.streams {
		got += s.body.Len()
	}
	require.Less(t, got, streams*size, "the GOAWAY came while responses were on their way")
	for i := range uint32(streams) {
		require.True(t, bytes.Equal(body, []byte(h.answered(2*i+1))), "stream %d", 2*i+1)
	}
	require.NoError(t, h.Close())
	require.Zero(t, (<-done).Dropped)
}

// TestGoAwayBetweenSplitFrames writes frames in pieces that respect nothing, and
// GOAWAYs from beside.
func TestGoAwayBetweenSplitFrames(t *testing.T) {
	certs, roots := testCertificate()
	wire, ends := someFrames(t, nil, 200)
	ours, theirs := net.Pipe()
	server, client := tls.Server(ours, tlsConfig(certs)), tls.Client(theirs, clientTLS(roots))
	c := newH2Conn(&multiplexer{}, server)
	c.farewell = final // http2's GOAWAYs in wire end nothing
	inject := func() {
		c.mu.Lock()
		c.due = append(c.due, goAway(99)...)
		c.mu.Unlock()
		c.deliver()
	}
	const injected = 100
	var all, beside sync.WaitGroup
	inject() // too early: http2 has not begun
	all.Go(func() {
		defer func() { _ = server.Close() }()
		for at := 0; at < len(wire); {
			n := min(len(wire)-at, rand.IntN(3000)+1)
			if rand.IntN(2) == 0 {
				n = min(n, 12)
			}
			if _, err := c.Write(wire[at : at+n]); err != nil {
				t.Error(err)
				return
			}
			at += n
		}
		beside.Wait()
		c.deliver()
	})
	beside.Go(func() {
		for range injected - 1 {
			inject()
		}
	})
	fr := http2.NewFramer(nil, client)
	fr.AllowIllegalReads = true
	fr.SetMaxReadFrameSize(1 << 24)
	pings, goAways, others := 0, 0, 0
	for first := true; ; first = false {
		f, err := fr.ReadFrame()
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		if g, ok := f.(*http2.GoAwayFrame); ok && g.LastStreamID == 99 && len(g.DebugData()) == 0 {
			require.False(t, first, "http2's SETTINGS come first")
			goAways++
			f, err = fr.ReadFrame()
			require.NoError(t, err)
			p, ok := f.(*http2.PingFrame)
			require.True(t, ok, "%v", f)
			require.Equal(t, pingMark, p.Data)
			pings++
			continue
		}
		others++
	}
	all.Wait()
	_ = client.Close()
	require.Equal(t, len(ends), others)
	require.Equal(t, injected, goAways)
	require.Equal(t, injected, pings)
	require.Equal(t, injected, c.unacked)
}

// TestFarewellSteps is the table of farewell: what moves it on, and what holds it.
func TestFarewellSteps(t *testing.T) {
	t.Parallel()
	certs, _ := testCertificate()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	ready := func(c *h2Conn) { // to get the final GOAWAY
		c.last, c.farewell = 5, told
		c.since, c.heard = ago(goAwayGrace), ago(goAwayGrace)
	}
	for _, tc := range []struct {
		name string
		set  func(*h2Conn)
		late bool
		want farewell
	}{
		{"it had a stream", func(c *h2Conn) { c.last = 1 }, false, told},
		{"it is new", func(*h2Conn) {}, false, serving},
		{"it is new, late", func(*h2Conn) {}, true, told},
		{"it was new long enough", func(c *h2Conn) { c.began = ago(goAwayGrace) }, false, told},
		{"acknowledged and quiet", ready, false, final},
		{"not acknowledged", func(c *h2Conn) { ready(c); c.unacked = 1 }, false, told},
		{"not acknowledged, late", func(c *h2Conn) { ready(c); c.unacked = 1 }, true, final},
		{"the first is not out yet", func(c *h2Conn) { ready(c); c.due = goAway(maxStream) }, false, told},
		{"a stream is open", func(c *h2Conn) { ready(c); c.busy = true }, true, told},
		{"half a frame", func(c *h2Conn) { ready(c); c.in.next([]byte{0}) }, true, told},
		{"half a field block", func(c *h2Conn) { ready(c); c.block = true }, true, told},
		{"heard just now", func(c *h2Conn) { ready(c); c.heard = ago(goAwayGrace - 1) }, false, told},
		{"heard just now, late", func(c *h2Conn) { ready(c); c.heard = ago(goAwayLull) }, true, final},
		{"heard now, late", func(c *h2Conn) { ready(c); c.heard = ago(goAwayLull - 1) }, true, told},
		{"told just now", func(c *h2Conn) { ready(c); c.since = ago(goAwayGrace - 1) }, false, told},
		{"the final one is not acknowledged", func(c *h2Conn) { c.farewell, c.since = final, ago(time.Hour) }, false, final},
		{"the final one is not acknowledged, late", func(c *h2Conn) { c.farewell, c.since = final, ago(goAwayGrace) }, true, over},
		{"http2 has said it", func(c *h2Conn) { ready(c); c.farewell = yielded }, true, yielded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := net.Pipe()
			defer func() { _ = b.Close() }()
			c := newH2Conn(&multiplexer{}, tls.Server(a, tlsConfig(certs)))
			c.began, c.in.preface = now, 0
			tc.set(c)
			c.step(now, tc.late)
			require.Equal(t, tc.want, c.farewell)
			c.end()
		})
	}
}

// The hooks of the http.Server see one connection from New to Closed.
func TestConnStateKnowsHTTP2ConnectionsByOneName(t *testing.T) {
	certs, roots := testCertificate()
	var mu sync.Mutex
	seen := map[net.Conn][]http.ConnState{}
	r := serve(t, &http.Server{Handler: ok, TLSConfig: tlsConfig(certs), ConnState: func(c net.Conn, st http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		seen[c] = append(seen[c], st)
	}}, "127.0.0.1:0")
	h := r.dialH2(t, roots)
	h.ask(1, "/")
	require.Equal(t, "ok", h.answered(1))
	require.NoError(t, h.Close())
	until(t, "closed", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, states := range seen {
			return states[len(states)-1] == http.StateClosed
		}
		return false
	})
	require.Len(t, seen, 1)
	for c, states := range seen {
		require.IsType(t, &tls.Conn{}, c)
		require.Contains(t, states, http.StateIdle)
	}
}
