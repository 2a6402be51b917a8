package routes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
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
	state  handoff.State

	receive func([]byte)
	gone    func()

	mu    sync.Mutex // guards what follows
	other *generation
	peer  *handoff.Peer // the other one, as this one sees it; nil if there is none
}

var errAlone = errors.New("there is no other generation")

func (g *generation) link() *handoff.Peer {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.peer
}

// newGeneration serves an engine made of deps, to which it adds what moves.
func newGeneration(t *testing.T, deps Deps) *generation {
	t.Helper()
	g := &generation{t: t, resume: map[string]handoff.Resume{}}
	deps.Log, g.lines = newLog()
	deps.Identify, deps.PID = true, 7
	deps.Leaving = handoff.Leaving
	deps.Resume = func(name string, r handoff.Resume) { g.resume[name] = r }
	deps.State = func(s handoff.State) error { g.state = s; return nil }
	deps.Relay = func(_ string, receive func([]byte), gone func()) func([]byte) error {
		g.receive, g.gone = receive, gone
		return func(b []byte) error {
			if p := g.link(); p != nil {
				return p.Send(handoff.Message{Type: handoff.Relay, Data: b})
			}
			return errAlone
		}
	}
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
	g.Adopt()
	g.Start(g.ln, func(err error) { t.Errorf("accept loop: %v", err) })
	t.Cleanup(func() {
		require.NoError(t, set.Close())
		g.CloseArrivals()
		g.Wait()
		g.Drain(context.Background(), handoff.DrainOptions{Timeout: 5 * time.Second})
	})
	return g
}

// connect makes a link between an old and a new generation, and passes the state on.
// The function it returns is the end of one of the two: the other one gets what that had
// sent, and then learns of it.
func connect(t *testing.T, a, b *generation) (end func(first *generation)) {
	t.Helper()
	l, f, err := handoff.NewLink()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no link on this system")
	}
	require.NoError(t, err)
	m, err := handoff.OpenLink(f)
	require.NoError(t, err)
	pair := map[*generation]*handoff.Peer{
		a: handoff.NewPeer(l, handoff.NewReceiver(map[string]*handoff.Server{"": a.Server}, a.resume), 10*time.Second),
		b: handoff.NewPeer(m, handoff.NewReceiver(map[string]*handoff.Server{"": b.Server}, b.resume), 10*time.Second),
	}
	done := map[*generation]chan struct{}{}
	for g, peer := range pair {
		g.mu.Lock()
		g.peer, g.other = peer, a
		if g == a {
			g.other = b
		}
		g.mu.Unlock()
		ended := make(chan struct{})
		done[g] = ended
		go func() {
			defer close(ended)
			_ = peer.Listen(func(m handoff.Message) {
				if m.Type == handoff.Relay {
					g.receive(m.Data)
				}
			})
			g.mu.Lock()
			g.peer = nil
			g.mu.Unlock()
			g.gone()
		}()
	}
	state, err := a.state.Save()
	require.NoError(t, err)
	require.NoError(t, b.state.Load(state))

	over := false
	end = func(first *generation) {
		if over {
			return
		}
		over = true
		second := a
		if first == a {
			second = b
		}
		for _, g := range []*generation{first, second} {
			pair[g].StopSending()
			require.NoError(t, pair[g].Close())
			<-done[first]
			<-done[second]
		}
	}
	t.Cleanup(func() { end(a) })
	return end
}

// move moves everything from g to its peer: what waits at once, the rest when it comes
// to wait.
func (g *generation) move() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(g.t, g.Move(ctx, g.link().Sender()))
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

// drainNow tells everybody to leave at once.
var drainNow = handoff.DrainOptions{Timeout: 10 * time.Second, HijackedUntil: time.Millisecond}

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

// echoed sends messages, two at a time, and expects them back, until stop is closed.
func (p peer) echoed(stop <-chan struct{}) error {
	frames := append(ws.MustCompileFrame(ws.MaskFrame(text("first"))), ws.MustCompileFrame(ws.MaskFrame(text("second")))...)
	for {
		if _, err := p.conn.Write(frames); err != nil {
			return err
		}
		for _, want := range []string{"first", "second"} {
			f, err := ws.ReadFrame(p.rd)
			if err != nil {
				return err
			}
			if string(f.Payload) != want {
				return fmt.Errorf("%q comes back as %v %q", want, f.Header.OpCode, f.Payload)
			}
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

// Messages that are on their way while the socket moves, at every possible moment,
// are each answered once, in order, and one that cannot move is told to leave.
func TestI3_EchoSocketsMoveUnderLoad(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	connect(t, a, b)
	const sockets, rounds = 8, 30
	stop, ended := make(chan struct{}), make(chan error, sockets)
	for range sockets {
		p := a.open("/ws")
		go func() { ended <- p.echoed(stop) }()
	}
	from, to := a, b
	for range rounds {
		from.moveAll(sockets)
		from, to = to, from
	}
	close(stop)
	for range sockets {
		require.NoError(t, <-ended)
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
		drained <- a.Drain(context.Background(), drainNow)
	}()
	p.expectClose(1012)
	p.send(closeFrame(1012, ""))
	p.expectEOF()
	require.Zero(t, (<-drained).Dropped)
}
