package handoff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// none is an Inheritance for the first generation: everything is made anew.
type none struct{}

func (none) Listener(string, string) (net.Listener, error) { return nil, nil }

func (none) ListenWithCallback(network, addr string, mk func(string, string) (net.Listener, error)) (net.Listener, error) {
	return mk(network, addr)
}

// rig is a server on a loopback port.
type rig struct {
	*Server
	ln *Listener
}

func serve(t testing.TB, srv *http.Server, address string) *rig {
	t.Helper()
	a, err := ParseAddress(address)
	require.NoError(t, err)
	set := NewSet(none{}, nil, BindOptions{})
	lns, err := set.Listen(a)
	require.NoError(t, err)
	s, err := NewServer(srv)
	require.NoError(t, err)
	s.Start(lns[0], func(err error) { t.Errorf("accept loop: %v", err) })
	t.Cleanup(func() {
		require.NoError(t, set.Close())
		s.CloseArrivals()
		s.Wait()
		s.cut()
	})
	return &rig{s, lns[0]}
}

func (r *rig) dial(t *testing.T) *client {
	t.Helper()
	c, err := net.Dial(r.ln.Addr().Network(), r.ln.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

// client speaks HTTP/1.1 on one connection and repeats nothing.
type client struct {
	t *testing.T
	net.Conn
	br *bufio.Reader
}

func (c *client) send(text string) {
	c.t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(c.t, err)
}

// answer reads one response and tells whether it ends the connection.
func (c *client) answer() (body string, last bool) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, nil)
	require.NoError(c.t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	_ = resp.Body.Close()
	return string(b), resp.Close
}

const get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })

// until waits for something that is not announced, at most for a while.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 10*time.Second, time.Millisecond, what)
}

func park(t *testing.T, r *rig) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.ln.Park(ctx))
}

func TestI1_ParkedListenerKeepsItsQueue(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	park(t, r)
	park(t, r) // again: nothing more happens

	c := r.dial(t) // the kernel completes the handshake
	c.send(get)
	require.Zero(t, r.Counts().Conns, "a parked loop accepts nothing")

	require.NoError(t, r.ln.Unpark())
	body, last := c.answer()
	require.Equal(t, "ok", body)
	require.False(t, last)
}

func TestI2_SweepServesWhatWaitsInTheQueue(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		r := serve(t, &http.Server{Handler: ok}, address)
		park(t, r)
		a, b := r.dial(t), r.dial(t)
		a.send(get)
		if n := r.ln.Sweep(context.Background()); n != 2 {
			t.Skipf("no look into the accept queue here: found %d", n)
		}
		require.NoError(t, r.ln.Close())
		b.send(get)
		for _, c := range []*client{a, b} {
			body, _ := c.answer()
			require.Equal(t, "ok", body)
		}
	}
}

func TestI2_DrainAnswersAndTellsTheClientToGo(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	c := r.dial(t)
	c.send(get)
	_, last := c.answer()
	require.False(t, last)
	fresh := r.dial(t) // accepted, no byte sent yet
	until(t, "both connections wait", func() bool { return r.Counts().Silent == 2 })
	park(t, r)

	done := make(chan DrainReport)
	go func() {
		done <- r.Drain(context.Background(), DrainOptions{Timeout: time.Minute, SilentAfter: time.Minute, SilentUntil: time.Minute})
	}()
	until(t, "drain begins", r.leaving.Load)
	for _, c := range []*client{c, fresh} {
		c.send(get)
		body, last := c.answer()
		require.Equal(t, "ok", body)
		require.True(t, last, "the response says Connection: close")
	}
	report := <-done
	require.Equal(t, Counts{Conns: 2, Silent: 2, New: 1, Idle: 1}, report.Start)
	require.Empty(t, report.Cut)
	require.Zero(t, report.Retired)
	require.Zero(t, report.Dropped)
}

func TestI2_DrainLetsARequestFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		close(entered)
		<-Leaving(q.Context()) // a long request is told
		<-leave
		_, _ = io.WriteString(w, "done")
	})}, "127.0.0.1:0")
	c := r.dial(t)
	c.send(get)
	<-entered
	park(t, r)
	done := make(chan DrainReport)
	go func() {
		done <- r.Drain(context.Background(), DrainOptions{Timeout: time.Minute})
	}()
	until(t, "drain begins", r.leaving.Load)
	close(leave)
	body, _ := c.answer()
	require.Equal(t, "done", body)
	report := <-done
	require.Equal(t, 1, report.Start.Requests)
	require.Empty(t, report.Cut)
}

// A request that trickles in is not silence: only its deadline ends it.
func TestI2_DrainWaitsForAHalfSentRequest(t *testing.T) {
	for _, tc := range []struct{ name, first, rest string }{
		{"first request", get[:7], get[7:]},
		{"one byte", get[:1], get[1:]},
		{"at a line's end", "GET / HTTP/1.1\r\n", "Host: x\r\n\r\n"},
	} {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/used=%v", tc.name, used), func(t *testing.T) {
				r := serve(t, &http.Server{Handler: ok, IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute}, "127.0.0.1:0")
				c := r.dial(t)
				if used {
					c.send(get)
					c.answer()
				}
				until(t, "the connection waits", func() bool { return r.Counts().Silent == 1 })
				c.send(tc.first)
				until(t, "bytes arrive", func() bool { n := r.Counts(); return n.Conns == 1 && n.Silent == 0 })
				park(t, r)
				done := make(chan DrainReport)
				go func() { done <- r.Drain(context.Background(), DrainOptions{Timeout: time.Minute, SilentUntil: 0}) }()
				silent := r.dialSilent(t, done)
				require.Zero(t, silent)
				c.send(tc.rest)
				body, last := c.answer()
				require.Equal(t, "ok", body)
				require.True(t, last)
				require.Zero(t, (<-done).Retired)
			})
		}
	}
}

// dialSilent waits until the drain has looked at the connections a few times,
// and returns how many it has closed.
func (r *rig) dialSilent(t *testing.T, done <-chan DrainReport) int {
	t.Helper()
	ticks := time.NewTicker(drainTick)
	defer ticks.Stop()
	for range 5 {
		select {
		case <-ticks.C:
		case <-done:
			t.Fatal("the drain ended with a request half sent")
		}
	}
	return r.endings()[fateRetired]
}

func TestDrainRetiresSilentConnections(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok, IdleTimeout: time.Minute}, "127.0.0.1:0")
	const n = 20
	var clients []*client
	for i := range n {
		c := r.dial(t)
		if i%2 == 0 {
			c.send(get)
			c.answer()
		}
		clients = append(clients, c)
	}
	until(t, "all wait", func() bool { return r.Counts().Silent == n })
	park(t, r)
	report := r.Drain(context.Background(), DrainOptions{Timeout: time.Minute, SilentUntil: 200 * time.Millisecond})
	require.Equal(t, n, report.Retired)
	require.Zero(t, report.Dropped)
	require.GreaterOrEqual(t, report.Duration, 150*time.Millisecond, "spread over the window")
	for _, c := range clients {
		_, err := c.br.ReadByte()
		require.ErrorIs(t, err, io.EOF, "closed, not reset")
	}
}

// What arrives in the instant in which a connection is woken is served.
func TestI2_RetireLooksIntoTheQueue(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	for range 200 {
		c := r.dial(t)
		until(t, "it waits", func() bool { return r.Counts().Silent == 1 })
		conn := r.snapshot()[0]
		c.send(get) // loopback: in the queue when this returns
		conn.retire()
		body, _ := c.answer()
		require.Equal(t, "ok", body)
		require.NoError(t, c.Close())
		until(t, "it is gone", func() bool { return r.Counts().Conns == 0 })
	}
}

func TestDrainCutsAtTheDeadlineAndReports(t *testing.T) {
	entered := make(chan struct{})
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		close(entered)
		<-q.Context().Done()
	})}, "127.0.0.1:0")
	c := r.dial(t)
	c.send("POST /orders?token=secret HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	<-entered
	park(t, r)
	report := r.Drain(context.Background(), DrainOptions{Timeout: 50 * time.Millisecond})
	require.Len(t, report.Cut, 1)
	require.Equal(t, 1, report.Dropped)
	cut := report.Cut[0]
	require.Equal(t, "POST", cut.Method)
	require.Equal(t, "/orders", cut.Path)
	require.Equal(t, c.LocalAddr().String(), cut.Peer)
	require.Positive(t, cut.Age)
}

func TestDrainTellsHijackedConnections(t *testing.T) {
	r := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "hello\n")
		<-Leaving(q.Context())
		_, _ = io.WriteString(c, "bye\n")
	})}, "127.0.0.1:0")
	var clients []*client
	for range 10 {
		c := r.dial(t)
		c.send(get)
		_, err := c.br.ReadString('\n')
		require.NoError(t, err)
		clients = append(clients, c)
	}
	park(t, r)
	report := r.Drain(context.Background(), DrainOptions{Timeout: time.Minute, HijackedUntil: 100 * time.Millisecond})
	require.Equal(t, 10, report.Start.Hijacked)
	require.Zero(t, report.Dropped)
	for _, c := range clients {
		s, err := c.br.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "bye\n", s)
	}
}

func TestDrainOverTLS(t *testing.T) {
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	cert, roots := ts.TLS.Certificates, ts.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	ts.Close()
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			entered, leave := make(chan struct{}, 1), make(chan struct{})
			r := serve(t, &http.Server{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if q.URL.Path == "/slow" {
						entered <- struct{}{}
						<-leave
					}
					_, _ = io.WriteString(w, q.Proto)
				}),
				TLSConfig: tlsConfig(cert),
			}, "127.0.0.1:0")
			tr := &http.Transport{TLSClientConfig: clientTLS(roots), ForceAttemptHTTP2: proto == "h2"}
			defer tr.CloseIdleConnections()
			base := url.URL{Scheme: "https", Host: r.ln.Addr().String()}
			do := func(path string) (*http.Response, error) {
				q, err := http.NewRequest(http.MethodGet, base.String()+path, nil)
				require.NoError(t, err)
				return tr.RoundTrip(q)
			}
			resp, err := do("/")
			require.NoError(t, err)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, map[string]string{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[proto], string(b))

			type result struct {
				resp *http.Response
				err  error
			}
			slow := make(chan result, 1)
			go func() {
				resp, err := do("/slow") //nolint:bodyclose // closed below
				slow <- result{resp, err}
			}()
			<-entered
			park(t, r)
			done := make(chan DrainReport)
			go func() {
				done <- r.Drain(context.Background(), DrainOptions{Timeout: time.Minute, SilentUntil: 100 * time.Millisecond})
			}()
			until(t, "drain begins", r.leaving.Load)
			close(leave)
			res := <-slow
			require.NoError(t, res.err)
			_, err = io.ReadAll(res.resp.Body)
			require.NoError(t, err)
			require.NoError(t, res.resp.Body.Close())
			report := <-done
			require.Equal(t, 1, report.Start.Requests)
			require.Empty(t, report.Cut)
			require.Zero(t, report.Dropped)
		})
	}
}

func TestUnixSocketFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	a := Address{Name: "http", Network: "unix", Addr: path}

	ln, err := bind(a, BindOptions{UnixMode: 0o600})
	require.NoError(t, err)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())

	_, err = bind(a, BindOptions{})
	require.ErrorContains(t, err, "a live server listens there")

	require.NoError(t, ln.Close())
	_, err = os.Stat(path)
	require.NoError(t, err, "the file outlives a process")

	ln, err = bind(a, BindOptions{UnixMode: 0o666}) // the dead server's file is replaced
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	fi, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o666), fi.Mode().Perm(), "whatever the umask")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = bind(Address{Network: "unix", Addr: file}, BindOptions{})
	require.ErrorContains(t, err, "not a socket")
	_, err = os.Stat(file)
	require.NoError(t, err, "somebody's file is left alone")
}

func TestReusePort(t *testing.T) {
	a := Address{Network: "tcp", Addr: "127.0.0.1:0"}
	first, err := bind(a, BindOptions{ReusePort: true})
	require.NoError(t, err)
	defer func() { _ = first.Close() }()
	a.Addr = first.Addr().String()
	_, err = bind(a, BindOptions{})
	require.ErrorContains(t, err, "in use")
	second, err := bind(a, BindOptions{ReusePort: true})
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestPassedSockets(t *testing.T) {
	mk := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	v4, v6, other := mk(), mk(), mk()
	set := NewSet(none{}, map[string][]net.Listener{"http": {v4, v6}, "other": {other}}, BindOptions{})
	lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: "203.0.113.1:80"}) // would not bind
	require.NoError(t, err)
	require.Len(t, lns, 2)
	require.True(t, lns[0].Passed())
	require.Equal(t, v4.Addr(), lns[0].Addr())
	require.Equal(t, []string{"other"}, set.CloseUnclaimed())
	_, err = other.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = set.Listen(Address{Name: "http", Network: "tcp", Addr: "203.0.113.1:80"})
	require.ErrorContains(t, err, "twice")
	require.NoError(t, set.Close())
	require.NoError(t, set.Close())
}

func TestAcceptLoopEndsWithTheListener(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	require.NoError(t, r.ln.Close())
	r.Wait()
	_, err := net.Dial("tcp", r.ln.String())
	require.Error(t, err)
}

func TestParkGivesUp(t *testing.T) {
	set := NewSet(none{}, nil, BindOptions{})
	lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	defer func() { _ = set.Close() }()
	lns[0].begin() // a loop that never comes back to Accept
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("enough"))
	require.ErrorIs(t, lns[0].Park(ctx), context.Canceled)
}
