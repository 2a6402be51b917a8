package handoff

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// pair is two servers that stand for two processes, with a link between them.
type pair struct {
	t        testing.TB
	old, new *rig
	oldPeer  *Peer // the old process's view
	newPeer  *Peer
}

func newPair(t testing.TB, address string, srv func() *http.Server) *pair {
	t.Helper()
	return newPairThatResumes(t, address, srv, nil)
}

func newPairThatResumes(t testing.TB, address string, srv func() *http.Server, resume map[string]Resume) *pair {
	t.Helper()
	p := &pair{t: t, old: serve(t, srv(), address)}
	other := "127.0.0.1:0"
	if address[0] != '1' {
		other = "unix:" + filepath.Join(t.TempDir(), "other")
	}
	p.new = serve(t, srv(), other)
	a, b := links(t)
	p.oldPeer = NewPeer(a, NewReceiver(map[string]*Server{"": p.old.Server}, resume), 10*time.Second)
	p.newPeer = NewPeer(b, NewReceiver(map[string]*Server{"": p.new.Server}, resume), 10*time.Second)
	for _, peer := range []*Peer{p.oldPeer, p.newPeer} {
		done := make(chan struct{})
		go func() { defer close(done); _ = peer.Listen(func(Message) {}) }()
		t.Cleanup(func() {
			_ = peer.Close()
			<-done
		})
	}
	for _, r := range []*rig{p.old, p.new} {
		r.Adopt()
	}
	return p
}

// move moves everything that waits from one process to the other.
func (p *pair) move(from *rig, to *Peer) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(p.t, from.Move(ctx, to.Sender()))
}

func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		// The method too: with its first bytes lost, it would be another one.
		_, _ = fmt.Fprintf(w, "%s %s %s %s", r.RemoteAddr, r.Method, r.URL.Path, b)
	})
}

func TestI3_ConnectionsMove(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		t.Run(address[:4], func(t *testing.T) {
			p := newPair(t, address, func() *http.Server {
				return &http.Server{Handler: named(""), IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute}
			})
			const n = 600 // more than two messages' worth
			var clients []*client
			for i := range n {
				c := p.old.dial(t)
				if i%3 > 0 {
					c.send(get)
					c.answer()
				}
				if i%3 == 2 {
					c.send("GE") // a part of the next request lies over there
				}
				clients = append(clients, c)
			}
			until(t, "all wait", func() bool { return p.old.Counts().Silent == n-n/3 && p.old.waiting() == n })
			before := p.old.Census()
			p.move(p.old, p.oldPeer)
			require.Equal(t, n, before.Open)
			moved, refused := p.oldPeer.Sender().Counts()
			require.Equal(t, n, moved)
			require.Zero(t, refused)
			until(t, "they are gone here", func() bool { return p.old.Counts().Conns == 0 })
			before.Add(p.old.Settle())
			require.Equal(t, n, before.Moved)
			require.True(t, before.Balances())

			// And back again, without a byte in between.
			until(t, "they have arrived", func() bool { return p.new.waiting() == n })
			p.old.Stay()
			p.move(p.new, p.newPeer)
			until(t, "they are back", func() bool { return p.old.waiting() == n && p.new.Counts().Conns == 0 })
			for i, c := range clients {
				c.send([]string{get, get, get[2:]}[i%3])
				body, last := c.answer()
				require.False(t, last)
				peer := c.LocalAddr().String()
				if peer == "" {
					peer = "@"
				}
				require.Equal(t, peer+" GET / ", body)
			}
		})
	}
}

// waiting counts the connections at a boundary.
func (r *rig) waiting() int {
	n := 0
	for _, c := range r.snapshot() {
		c.mu.Lock()
		if c.parked {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// TestI2_EmptyLinesAfterAPost: the new process has not seen the POST after which
// RFC 9112 section 2.2 asks for patience.
func TestI2_EmptyLinesAfterAPost(t *testing.T) {
	for _, blank := range []string{"\r\n", "\r\n\r\n", "\n"} {
		for _, arrives := range []string{"before", "after", "apart"} {
			t.Run(fmt.Sprintf("%q/%s", blank, arrives), func(t *testing.T) {
				p := newPair(t, "127.0.0.1:0", func() *http.Server { return &http.Server{Handler: named("")} })
				c := p.old.dial(t)
				c.send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
				c.answer()
				until(t, "it waits", func() bool { return p.old.waiting() == 1 })
				rest := blank + get
				if arrives == "before" && len(blank) <= maxPrefix {
					c.send(blank)
					until(t, "it is held", func() bool { return p.old.waiting() == 1 && p.old.Counts().Silent == 0 })
					rest = get
				}
				p.move(p.old, p.oldPeer)
				until(t, "it has moved", func() bool { return p.new.waiting() == 1 })
				if arrives == "apart" {
					c.send(blank)
					rest = get
				}
				c.send(rest)
				body, _ := c.answer()
				require.Contains(t, body, " GET / ")
			})
		}
	}
}

// TestBusyConnectionsMoveWhenTheyAreDone.
func TestI2_BusyConnectionsMoveWhenTheyAreDone(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	p := newPair(t, "127.0.0.1:0", func() *http.Server {
		return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				entered <- struct{}{}
				<-leave
			}
			_, _ = io.WriteString(w, "ok")
		})}
	})
	c := p.old.dial(t)
	c.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	half := p.old.dial(t)
	half.send(get[:9])
	until(t, "it is in its head", func() bool { return p.old.Counts().Conns == 2 && p.old.waiting() == 0 })
	park(t, p.old)
	p.move(p.old, p.oldPeer)
	require.Equal(t, 2, p.old.Counts().Conns, "busy ones stay for now")
	done := make(chan DrainReport)
	go func() { done <- p.old.Drain(context.Background(), DrainOptions{Timeout: time.Minute}) }()
	until(t, "the drain begins", p.old.leaving.Load)
	close(leave)
	half.send(get[9:])
	for _, c := range []*client{c, half} {
		body, last := c.answer()
		require.Equal(t, "ok", body)
		require.False(t, last, "not told to close: it moves")
	}
	report := <-done
	require.Zero(t, report.Retired+report.Dropped)
	until(t, "they have moved", func() bool { return p.new.waiting() == 2 })
	c.send(get)
	body, _ := c.answer()
	require.Equal(t, "ok", body)
}

// TestI3_DeadlinesTravel: the time that was left for the next request is the same
// in each process, and a slow request has its own.
func TestI3_DeadlinesTravel(t *testing.T) {
	const idle = 1500 * time.Millisecond
	p := newPair(t, "127.0.0.1:0", func() *http.Server {
		return &http.Server{Handler: ok, IdleTimeout: idle, ReadHeaderTimeout: 300 * time.Millisecond, ReadTimeout: 600 * time.Millisecond}
	})
	quiet, late := p.old.dial(t), p.old.dial(t)
	for _, c := range []*client{quiet, late} {
		c.send(get)
		c.answer()
	}
	began := time.Now()
	until(t, "they wait", func() bool { return p.old.waiting() == 2 })
	p.move(p.old, p.oldPeer)
	until(t, "they have moved", func() bool { return p.new.waiting() == 2 })
	p.old.Stay()
	p.move(p.new, p.newPeer)
	until(t, "they are back", func() bool { return p.old.waiting() == 2 })

	// Well after ReadHeaderTimeout and ReadTimeout, counted from the arrival.
	timer := time.NewTimer(time.Second)
	<-timer.C
	late.send("POST / HTTP/1.1\r\nHost: x\r\n")
	until(t, "it reads the head", func() bool { return p.old.waiting() == 1 })
	late.send("Content-Length: 2\r\n\r\n")
	late.send("hi")
	body, _ := late.answer()
	require.Equal(t, "ok", body)

	_, err := quiet.br.ReadByte()
	require.ErrorIs(t, err, io.EOF, "closed by IdleTimeout")
	require.Greater(t, time.Since(began), idle-100*time.Millisecond)
}

// The peer cannot take everything: what it refuses stays, and is served.
func TestI3_RefusedConnectionsStay(t *testing.T) {
	p := newPair(t, "127.0.0.1:0", func() *http.Server { return &http.Server{Handler: ok} })
	var clients []*client
	for range 20 {
		clients = append(clients, p.old.dial(t))
	}
	until(t, "all wait", func() bool { return p.old.waiting() == 20 })
	p.new.leaving.Store(true)
	p.move(p.old, p.oldPeer)
	_, refused := p.oldPeer.Sender().Counts()
	require.Equal(t, 20, refused)
	until(t, "they wait again", func() bool { return p.old.waiting() == 20 })
	for _, c := range clients {
		c.send(get)
		body, _ := c.answer()
		require.Equal(t, "ok", body)
	}
	// The next process may take them.
	p.new.leaving.Store(false)
	until(t, "all wait", func() bool { return p.old.waiting() == 20 })
	p.oldPeer.StopSending()
	p.move(p.old, p.oldPeer)
	until(t, "they have moved", func() bool { return p.new.waiting() == 20 })
}

// lonely is a server whose peer does as the test says.
func lonely(t *testing.T, bound time.Duration, n int) (r *rig, peer *Peer, far *Link, clients []*client) {
	t.Helper()
	r = serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	a, b := links(t)
	peer = NewPeer(a, nil, bound)
	done := make(chan struct{})
	go func() { defer close(done); _ = peer.Listen(func(Message) {}) }()
	t.Cleanup(func() {
		_ = peer.Close()
		<-done
	})
	for range n {
		clients = append(clients, r.dial(t))
	}
	until(t, "all wait", func() bool { return r.waiting() == n })
	return r, peer, b, clients
}

func served(t *testing.T, clients []*client) {
	t.Helper()
	for _, c := range clients {
		c.send(get)
		body, _ := c.answer()
		require.Equal(t, "ok", body)
	}
}

// A peer that takes offers and never answers: the bound ends the wait, and every
// connection is served here. What the peer had is never read by it, as it cannot
// acknowledge any more.
func TestI3_AStalledPeer(t *testing.T) {
	r, peer, far, clients := lonely(t, 50*time.Millisecond, 300)
	to := peer.Sender()
	require.NoError(t, r.Move(context.Background(), to))
	require.ErrorContains(t, to.Err(), "no acknowledgement within 50ms")
	served(t, clients)
	m, err := far.Receive(time.Second)
	require.NoError(t, err)
	require.Equal(t, Offer, m.Type)
	rec := NewReceiver(map[string]*Server{"": r.Server}, nil)
	n, err := rec.take(far, m)
	require.ErrorIs(t, err, unix.EPIPE)
	require.Zero(t, n)
	require.Len(t, r.snapshot(), len(clients), "it has not let anyone read what it could not acknowledge")
}

// A peer that is gone with connections in its hands.
func TestI3_APeerThatDies(t *testing.T) {
	r, peer, far, clients := lonely(t, 10*time.Second, 300)
	ended := make(chan error, 1)
	go func() {
		m, err := far.Receive(10 * time.Second)
		m.discard()
		ended <- errors.Join(err, far.Close())
	}()
	require.NoError(t, r.Move(context.Background(), peer.Sender()))
	require.NoError(t, <-ended)
	served(t, clients)
}

// A peer that answers what was not asked, and more than once.
func TestI3_APeerThatLies(t *testing.T) {
	r, peer, far, clients := lonely(t, 200*time.Millisecond, 3)
	ended := make(chan error, 1)
	go func() {
		m, err := far.Receive(10 * time.Second)
		m.discard()
		for _, ack := range []Message{
			{Type: Ack, Seq: m.Seq + 7, Taken: []byte{0xff}},
			{Type: Ack, Seq: m.Seq},
			{Type: Ack, Seq: m.Seq, Taken: bytes.Repeat([]byte{0xff}, 32)},
			{Type: Offer, Seq: 1, Items: []Item{{Kind: "cake"}, {}}},
		} {
			err = errors.Join(err, far.Send(ack))
		}
		ended <- err
	}()
	require.NoError(t, r.Move(context.Background(), peer.Sender()))
	require.NoError(t, <-ended)
	served(t, clients)
}

// An offer with more descriptions than descriptors, with descriptors that are no
// sockets, and with more descriptors than descriptions.
func TestOffersThatMakeNoSense(t *testing.T) {
	p := newPair(t, "127.0.0.1:0", func() *http.Server { return &http.Server{Handler: ok} })
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	idle := Item{Kind: kindIdle, Network: "tcp", Remote: "nonsense"}
	before := openFiles(t)
	for _, o := range []struct {
		items []Item
		fds   []int
	}{
		{[]Item{idle, idle}, []int{null}},
		{[]Item{idle}, []int{null, null, null}},
		{nil, []int{null}},
		{[]Item{{Kind: kindHijacked, Handler: "nobody"}, {Kind: "later"}, {Kind: kindIdle, Listener: "unknown"}}, []int{null, null, null}},
	} {
		require.NoError(t, p.oldPeer.send(Message{Type: Offer, Seq: 1, Items: o.items}, o.fds))
	}
	c := p.old.dial(t)
	until(t, "it waits", func() bool { return p.old.waiting() == 1 })
	p.move(p.old, p.oldPeer) // the link still works
	c.send(get)
	body, _ := c.answer()
	require.Equal(t, "ok", body)
	require.NoError(t, c.Close())
	until(t, "it is gone", func() bool { return p.new.Counts().Conns == 0 })
	require.Equal(t, before, openFiles(t), "descriptors")
	require.NoError(t, unix.Close(null))
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	return len(fds)
}

// counting is a protocol of lines: each is answered with its number.
func counting(conn net.Conn, n int, where string) error {
	b := Movable(conn, Mover{
		Name:   "counting",
		Freeze: func() ([]byte, error) { return []byte{byte(n)}, nil },
	})
	br := bufio.NewReader(conn)
	for {
		if br.Buffered() == 0 {
			if err := b.Wait(); err != nil {
				return err
			}
		}
		line, err := br.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "panic\n" {
			panic("as asked")
		}
		n++
		if _, err := fmt.Fprintf(conn, "%s %d %s", where, n, line); err != nil {
			return err
		}
	}
}

func TestI3_HijackedConnectionsMove(t *testing.T) {
	ended := make(chan error, 1)
	p := newPairThatResumes(t, "127.0.0.1:0", func() *http.Server {
		return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, "welcome\n")
				err = counting(conn, 0, "first")
			}
			if !errors.Is(err, ErrMoved) {
				t.Error(err)
			}
		}), ErrorLog: log.New(io.Discard, "", 0)}
	}, map[string]Resume{"counting": func(_ context.Context, conn net.Conn, state []byte) {
		ended <- counting(conn, int(state[0]), "then")
	}})
	c := p.old.dial(t)
	c.send(get)
	says := func(want string) {
		t.Helper()
		s, err := c.br.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, want, s)
	}
	says("welcome\n")
	c.send("a\nb\n")
	says("first 1 a\n")
	says("first 2 b\n")
	until(t, "it waits", func() bool { return p.old.waiting() == 1 })
	require.Zero(t, p.old.Counts().Silent)
	p.move(p.old, p.oldPeer)
	c.send("c\n")
	says("then 3 c\n")
	require.Equal(t, 1, p.new.Counts().Hijacked)
	c.send("d") // half a message: it stays until the rest has come
	until(t, "it is read", func() bool { return p.new.waiting() == 0 })
	p.old.Stay()
	p.move(p.new, p.newPeer)
	require.Equal(t, 1, p.new.Counts().Hijacked)
	c.send("\n")
	says("then 4 d\n")
	require.ErrorIs(t, <-ended, ErrMoved)
	c.send("e\n")
	says("then 5 e\n")
	until(t, "it waits", func() bool { return p.old.waiting() == 1 })
	c.send("panic\n")
	_, err := c.br.ReadByte()
	require.Error(t, err, "the connection is closed, and nothing else happens")
	until(t, "it is gone", func() bool { return p.old.Counts().Conns == 0 })
}

// TestI3_AcknowledgedMeansServed: a server that stops takes no more, but serves what
// it has acknowledged.
func TestI3_AcknowledgedMeansServed(t *testing.T) {
	a := newArrivals()
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	require.True(t, a.reserve())
	require.True(t, a.reserve())
	require.NoError(t, a.Close())
	require.False(t, a.reserve())
	got := make(chan error, 2)
	go func() {
		for range 2 {
			_, err := a.Accept()
			got <- err
		}
	}()
	a.put(near)
	require.NoError(t, <-got)
	select {
	case err := <-got:
		t.Fatalf("it does not wait for the other one: %v", err)
	default:
	}
	a.release()
	require.ErrorIs(t, <-got, net.ErrClosed)
}
