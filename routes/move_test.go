package routes

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
)

// none is the inheritance of a first generation: every listener is made anew.
type none struct{}

func (none) Listener(string, string) (net.Listener, error) { return nil, nil }

func (none) ListenWithCallback(network, addr string, mk func(string, string) (net.Listener, error)) (net.Listener, error) {
	return mk(network, addr)
}

// generation is an engine on a server that stands for a process.
type generation struct {
	*handoff.Server
	t      *testing.T
	ln     *handoff.Listener
	lines  logLines
	resume map[string]handoff.Resume
	other  *generation
	peer   *handoff.Peer // the other one, as this one sees it
}

// newGeneration serves an engine made of deps, to which it adds what moves.
func newGeneration(t *testing.T, deps Deps) *generation {
	t.Helper()
	g := &generation{t: t, resume: map[string]handoff.Resume{}}
	deps.Log, g.lines = newLog()
	deps.Identify, deps.PID = true, 7
	deps.Leaving = handoff.Leaving
	deps.Resume = func(name string, r handoff.Resume) { g.resume[name] = r }
	if deps.CloseWait == 0 {
		deps.CloseWait = time.Second
	}
	a, err := handoff.ParseAddress("127.0.0.1:0")
	require.NoError(t, err)
	set := handoff.NewSet(none{}, nil, handoff.BindOptions{})
	lns, err := set.Listen(a)
	require.NoError(t, err)
	g.ln = lns[0]
	g.Server, err = handoff.NewServer(&http.Server{Handler: New(deps), ErrorLog: log.New(io.Discard, "", 0)})
	require.NoError(t, err)
	g.Start(g.ln, func(err error) { t.Errorf("accept loop: %v", err) })
	t.Cleanup(func() {
		require.NoError(t, set.Close())
		g.CloseArrivals()
		g.Wait()
		g.Drain(context.Background(), handoff.DrainOptions{Timeout: 5 * time.Second})
	})
	return g
}

// connect makes a link between two generations. The function it returns ends it, as
// the end of one of the processes would.
func connect(t *testing.T, a, b *generation) (end func()) {
	t.Helper()
	l, f, err := handoff.NewLink()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no link on this system")
	}
	require.NoError(t, err)
	m, err := handoff.OpenLink(f)
	require.NoError(t, err)
	a.peer = handoff.NewPeer(l, handoff.NewReceiver(map[string]*handoff.Server{"": a.Server}, a.resume), 10*time.Second)
	b.peer = handoff.NewPeer(m, handoff.NewReceiver(map[string]*handoff.Server{"": b.Server}, b.resume), 10*time.Second)
	a.other, b.other = b, a
	done := make(chan struct{}, 2)
	for _, g := range []*generation{a, b} {
		peer := g.peer
		go func() {
			_ = peer.Listen(func(handoff.Message) {})
			done <- struct{}{}
		}()
		g.Adopt()
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		for _, g := range []*generation{a, b} {
			sender := g.peer.Sender() // of a peer that is gone it would be another
			require.NoError(t, g.peer.Close())
			<-done
			sender.Close()
		}
	}
	t.Cleanup(end)
	return end
}

// move moves everything from g to its peer: what waits at once, the rest when it comes
// to wait.
func (g *generation) move() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(g.t, g.Move(ctx, g.peer.Sender()))
}

// moveAll moves all n that there are, and waits until they have arrived.
func (g *generation) moveAll(n int) {
	g.t.Helper()
	g.move()
	require.Eventually(g.t, func() bool { return g.Counts().Conns == 0 && g.other.Counts().Conns == n },
		10*time.Second, time.Millisecond, "all have moved")
	g.Stay()
}

// open makes a WebSocket of a path, with first as the bytes that follow at once.
func (g *generation) open(path string, first ...byte) peer {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.ln.Addr().String())
	require.NoError(g.t, err)
	g.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(g.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	p := peer{g.t, conn, bufio.NewReader(conn)}
	p.sendRaw(append([]byte(strings.Replace(handshake, "/ws", path, 1)), first...))
	resp, err := http.ReadResponse(p.rd, nil) //nolint:bodyclose // 101 has none
	require.NoError(g.t, err)
	require.Equal(g.t, 101, resp.StatusCode)
	return p
}

func text(s string) ws.Frame { return ws.NewTextFrame([]byte(s)) }

func TestI3_EchoSocketsMove(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	connect(t, a, b)
	p := a.open("/ws", ws.MustCompileFrame(ws.MaskFrame(text("early")))...)
	p.expect(ws.OpText, "early")
	p.send(text("here"))
	p.expect(ws.OpText, "here")
	a.moveAll(1)
	moved := a.lines.next(t, "request")
	require.Equal(t, true, moved["moved"])
	require.Nil(t, moved["error"])

	p.send(text("there"), ws.NewPingFrame([]byte("p")))
	p.expect(ws.OpText, "there")
	p.expect(ws.OpPong, "p")
	p.send(ws.NewFrame(ws.OpText, false, []byte("in two ")), ws.NewPingFrame([]byte("q")))
	p.expect(ws.OpPong, "q") // so the first part has been read
	b.move()
	p.send(ws.NewFrame(ws.OpContinuation, true, []byte("parts")))
	p.expect(ws.OpText, "in two parts")
	b.moveAll(1)
	again := b.lines.next(t, "resumed request")
	require.Equal(t, moved["request_id"], again["request_id"])
	require.Equal(t, true, again["moved"])
	require.EqualValues(t, 4, again["messages"])

	p.send(text("back"), closeFrame(1000, ""))
	p.expect(ws.OpText, "back")
	p.expectClose(1000)
	p.expectEOF()
	last := a.lines.next(t, "resumed request")
	require.EqualValues(t, 5, last["messages"])
	require.EqualValues(t, 101, last["status"])
	require.Equal(t, "/ws", last["route"])
	require.Equal(t, p.conn.LocalAddr().String(), last["peer"])
	require.Nil(t, last["moved"])
	require.Nil(t, last["error"])
}

// Messages that are on their way while the socket moves, at every possible moment,
// are each answered once, in order, and one that cannot move is told to leave.
func TestI3_EchoSocketsMoveUnderLoad(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	connect(t, a, b)
	const sockets, rounds = 8, 30
	stop, ended := make(chan struct{}), make(chan int, sockets)
	for range sockets {
		p := a.open("/ws")
		go func() {
			n := 0
			defer func() { ended <- n }()
			for ; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				p.send(text("first"), text("second"))
				p.expect(ws.OpText, "first")
				p.expect(ws.OpText, "second")
			}
		}()
	}
	from, to := a, b
	for range rounds {
		from.moveAll(sockets)
		from, to = to, from
	}
	close(stop)
	for range sockets {
		require.NotZero(t, <-ended)
	}
	require.Equal(t, sockets, from.Counts().Hijacked)
	require.Zero(t, to.Counts().Conns)
}

func TestSocketsThatCannotMoveLeave(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	delete(b.resume, echoName) // an earlier version, say
	connect(t, a, b)
	p := a.open("/ws")
	p.send(text("hello"))
	p.expect(ws.OpText, "hello")
	a.move()
	p.send(text("still here"))
	p.expect(ws.OpText, "still here")
	drained := make(chan handoff.DrainReport)
	go func() {
		drained <- a.Drain(context.Background(), handoff.DrainOptions{Timeout: 10 * time.Second, HijackedUntil: time.Millisecond})
	}()
	p.expectClose(1012)
	p.send(closeFrame(1012, ""))
	p.expectEOF()
	require.Zero(t, (<-drained).Dropped)
}
