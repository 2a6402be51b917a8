package routes

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// talker is a member that posts one message after the other, and checks what it hears:
// consecutive numbers, and each of its own messages once.
type talker struct {
	peer
	name  string
	last  uint64
	posts int
	from  map[string]int // how many it has heard of whom

	heard map[uint64]string // by number
}

func (m *talker) hear() (said, error) {
	var s said
	f, err := ws.ReadFrame(m.rd)
	if err != nil {
		return s, err
	}
	if f.Header.OpCode != ws.OpText || json.Unmarshal(f.Payload, &s) != nil {
		return s, fmt.Errorf("%s is sent %v %q behind entry %d", m.name, f.Header.OpCode, f.Payload, m.last)
	}
	if m.last != 0 && s.Seq != m.last+1 {
		return s, fmt.Errorf("%s is sent %+v behind entry %d", m.name, s, m.last)
	}
	m.last = s.Seq
	m.heard[s.Seq] = s.From + ": " + s.Text
	return s, nil
}

// window is how many messages a talker may be ahead of any other in its room.
const window = 50

// talk posts until stop is closed. Between two messages it reads until it has its own.
func (m *talker) talk(stop <-chan struct{}, others []string) error {
	for ; ; m.posts++ {
		select {
		case <-stop:
			if m.from[chatServer] > 0 {
				return nil
			}
		default:
		}
		// Nobody runs away from the others: the log is finite. Pushes end the wait.
		for _, other := range others {
			for m.from[other]+window < m.posts {
				s, err := m.hear()
				if err != nil {
					return err
				}
				m.from[s.From]++
				select {
				case <-stop:
					return nil
				default:
				}
			}
		}
		text := fmt.Sprint("message ", m.posts)
		if err := ws.WriteFrame(m.conn, ws.MaskFrame(ws.NewTextFrame([]byte(text)))); err != nil {
			return err
		}
		for {
			s, err := m.hear()
			if err != nil {
				return err
			}
			if s.From == m.name && s.Text != text {
				return fmt.Errorf("%s is sent %+v when it waits for %q", m.name, s, text)
			}
			m.from[s.From]++
			if s.From == m.name {
				break
			}
		}
	}
}

// crowd is talkers in rooms.
type crowd struct {
	t     *testing.T
	rooms map[string][]*talker
	stop  chan struct{}
	ended chan error
}

func gather(t *testing.T, g *generation, rooms, each int) *crowd {
	t.Helper()
	c := &crowd{t: t, rooms: map[string][]*talker{}, stop: make(chan struct{}), ended: make(chan error, rooms*each)}
	for i := range rooms {
		room := fmt.Sprint("room", i)
		for j := range each {
			m := &talker{name: fmt.Sprint("m", j), heard: map[uint64]string{}, from: map[string]int{}}
			m.peer = g.open(fmt.Sprintf("/chat?room=%s&name=%s&push=%d", room, m.name, 20))
			c.rooms[room] = append(c.rooms[room], m)
		}
	}
	for _, ms := range c.rooms {
		var names []string
		for _, m := range ms {
			names = append(names, m.name)
		}
		for _, m := range ms {
			go func() { c.ended <- m.talk(c.stop, names) }()
		}
	}
	return c
}

func (c *crowd) size() (n int) {
	for _, ms := range c.rooms {
		n += len(ms)
	}
	return n
}

// disperse ends the talk and checks that all in a room have heard the same. By then each
// has heard its own last message, but not all have heard those of the others.
func (c *crowd) disperse() {
	c.t.Helper()
	close(c.stop)
	for range c.size() {
		require.NoError(c.t, <-c.ended)
	}
	for room, ms := range c.rooms {
		all := map[uint64]string{}
		var last uint64
		for _, m := range ms {
			last = max(last, m.last)
		}
		for _, m := range ms {
			for m.last < last {
				_, err := m.hear()
				require.NoError(c.t, err)
			}
			for seq, text := range m.heard {
				if all[seq] == "" {
					all[seq] = text
				}
				require.Equal(c.t, all[seq], text, "%s %d", room, seq)
			}
		}
		per := map[string]int{}
		for _, text := range all {
			per[text[:2]]++
		}
		for _, m := range ms {
			require.Equal(c.t, m.posts, per[m.name], "%s in %s: each message once", m.name, room)
			require.NotZero(c.t, m.posts)
		}
	}
}

// The room goes on through a chain of upgrades, of which some fail before anybody has
// moved, some are called off when all have, and some succeed, while everybody talks.
func TestI3_ChatGoesOnThroughUpgrades(t *testing.T) {
	now := newGeneration(t, Deps{})
	c := gather(t, now, 3, 4)
	n := c.size()
	chosen := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // any choice will do
	for i := range 12 {
		next := newGeneration(t, Deps{})
		end := connect(t, now, next)
		kind := i % 4
		if i >= 4 {
			kind = chosen.IntN(4)
		}
		switch kind {
		case 0: // the new one fails at once
			end(next)
		case 1: // it is called off
			now.moveAll(n)
			next.moveAll(n)
			end(next)
		case 2: // back and forth, and then it fails
			for range 5 {
				now.moveAll(n)
				next.moveAll(n)
			}
			end(next)
		default:
			now.moveAll(n)
			end(now)
			now = next
		}
	}
	c.disperse()

	for _, ms := range c.rooms {
		for _, m := range ms {
			require.NoError(t, m.conn.Close())
		}
	}
}

// While the members of one room are in two processes, what is posted in either is an
// entry in both, and the pushes go on.
func TestI3_ChatInTwoProcesses(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	old := a.open("/chat?room=r&name=old")
	old.says("before")
	require.Equal(t, said{1, "r", "old", "before"}, old.hears())
	end := connect(t, a, b)
	fresh := b.open("/chat?room=r&name=fresh&since=0")
	require.Equal(t, said{1, "r", "old", "before"}, fresh.hears(), "the log has come along")
	for i := uint64(2); i < 40; i += 2 {
		old.says("ping")
		fresh.says("pong")
		for j := range uint64(2) {
			x, y := old.hears(), fresh.hears()
			require.Equal(t, x, y)
			require.Equal(t, i+j, x.Seq)
		}
	}
	end(a)
	// The old process's last members are cut off; the new one goes on alone.
	fresh.says("alone")
	require.Equal(t, said{40, "r", "fresh", "alone"}, fresh.hears())
	require.NoError(t, old.conn.Close())
	fresh.bye()
}

// A stream ends when its process is replaced, and is taken up in the next one behind its
// last entry, which may have been posted on the other side in between.
func TestI3_EventsGoOnElsewhere(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	m := a.open("/chat?room=r&name=m")
	for range 2 {
		m.says("x")
		m.hears()
	}
	stream := subscribe(t, "http://"+a.ln.Addr().String(), "")
	id, _ := event(t, stream)
	require.Equal(t, "2", id)
	connect(t, a, b)
	m.says("3")
	id, _ = event(t, stream)
	require.Equal(t, "3", id)
	again := subscribe(t, "http://"+b.ln.Addr().String(), id)
	m.says("4")
	id, data := event(t, again)
	require.Equal(t, "4", id)
	require.Equal(t, `{"seq":4,"room":"r","from":"m","text":"4"}`, data)
	id, _ = event(t, stream)
	require.Equal(t, "4", id)
	for range 2 {
		m.hears()
	}
	m.bye()
}

// A member that cannot move has all its own entries before Close 1012, and goes on in
// the next process behind the last of them.
func TestChatMembersThatCannotMoveLeave(t *testing.T) {
	a, b := newGeneration(t, Deps{}), newGeneration(t, Deps{})
	delete(b.resume, chatName)
	connect(t, a, b)
	m := a.open("/chat?room=r&name=m")
	m.says("1")
	m.says("2")
	a.move()
	require.Equal(t, uint64(1), m.hears().Seq)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Drain(t.Context(), drainNow)
	}()
	require.Equal(t, uint64(2), m.hears().Seq)
	m.expectClose(1012)
	m.send(closeFrame(1012, ""))
	m.expectEOF()
	<-done
	m = b.open("/chat?room=r&name=m&since=1")
	require.Equal(t, said{2, "r", "m", "2"}, m.hears())
	m.bye()
}

// A member whose state this version cannot read is sent on: it can begin anew.
func TestChatStateOfAnotherVersion(t *testing.T) {
	g := newGeneration(t, Deps{})
	server, client := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.resume[chatName](t.Context(), server, []byte("from the future"))
		_ = server.Close()
	}()
	p := peer{t, client, bufio.NewReader(client)}
	p.expectClose(1012)
	p.send(closeFrame(1012, ""))
	p.expectEOF()
	<-done
	line := g.lines.next(t, "resumed request")
	require.Equal(t, "/chat", line["route"])
	require.NotNil(t, line["error"])
}
