package load

import (
	"encoding/json"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes"
)

func TestChatWithTheRealServer(t *testing.T) {
	s := httptest.NewServer(routes.New(routes.Deps{Identify: true, Generation: 3}))
	defer s.Close()
	addr := Addr{Network: "tcp", Address: s.Listener.Addr().String()}
	tally := run(t, Workload{
		Kind: Chat, Addr: addr, Conns: 7, RoomSize: 3, Push: 20 * time.Millisecond, Pause: 10 * time.Millisecond, MaxRequests: 300,
	})
	require.NoError(t, tally.Err())
	c := tally.Workloads["chat"]
	require.Equal(t, int64(300), c.Answered)
	require.Equal(t, int64(7), c.Connects)
	require.Equal(t, map[int]int64{3: 7}, c.Generations)
	require.Empty(t, tally.Ranges)
}

// room is a scripted one, of one member.
type room struct {
	c          net.Conn
	name, self string
	seq        uint64
}

// hears reads a message; ok is false when the client has gone.
func (r *room) hears() (text string, ok bool) {
	data, _, err := wsutil.ReadClientData(r.c)
	return string(data), err == nil
}

// says sends the entry with the next number, or one further on.
func (r *room) says(from, text string, skip uint64) bool {
	r.seq += 1 + skip
	b, _ := json.Marshal(entry{r.seq, r.name, from, text})
	return wsutil.WriteServerText(r.c, b) == nil
}

// chatServer gives each connection a room that goes on counting where the last one ended.
func chatServer(t *testing.T, serve func(r *room)) *Runner {
	t.Helper()
	var mu sync.Mutex // guards seq: the client may be back before its last connection has ended here
	var seq uint64
	var name string
	addr := socketServer(t, func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		r := &room{c: c, name: name, self: "w0", seq: seq}
		serve(r)
		seq = r.seq
	})
	r, err := New(Workload{Kind: Chat, Addr: addr, MaxRequests: 4, Pause: time.Millisecond})
	require.NoError(t, err)
	name = r.workers[0].chat.room
	return r
}

func TestChatFindsFault(t *testing.T) {
	for _, test := range []struct {
		name  string
		serve func(r *room)
		want  map[Class]int64
	}{
		{"all is well", func(r *room) {
			for text, ok := r.hears(); ok; text, ok = r.hears() {
				r.says("w1", text, 0)
				r.says(r.self, text, 0)
			}
		}, map[Class]int64{}},
		{"a gap", func(r *room) {
			skip := uint64(0)
			for text, ok := r.hears(); ok; text, ok = r.hears() {
				r.says(r.self, text, skip)
				skip = 1
			}
		}, map[Class]int64{Corrupt: 3}},
		{"its own is missing", func(r *room) {
			for _, ok := r.hears(); ok; _, ok = r.hears() {
				r.says("w1", "something", 0)
			}
		}, map[Class]int64{Timeout: 4}},
		{"closed with another code", func(r *room) {
			_, _ = r.hears()
			closeWith(r.c, ws.StatusGoingAway)
		}, map[Class]int64{EOF: 4}},
		{"no entry", func(r *room) {
			_, _ = r.hears()
			_ = wsutil.WriteServerText(r.c, []byte(`{"seq":1,"room":"elsewhere"}`))
			_, _ = r.hears()
		}, map[Class]int64{Corrupt: 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := chatServer(t, test.serve)
			if test.want[Timeout] > 0 {
				r.workers[0].Timeout = 200 * time.Millisecond
			}
			r.Start(t.Context())
			tally := r.Wait()
			c := tally.Total()
			require.Equal(t, test.want, c.Failures, "%s", tally)
			require.Equal(t, c.Sent, c.Answered+c.Failed())
		})
	}
}

// A repetition comes while nothing is asked, and fails the next request, or one of its own
// if there is none.
func TestChatRepetitionInAPause(t *testing.T) {
	r := chatServer(t, func(r *room) {
		for text, ok := r.hears(); ok; text, ok = r.hears() {
			r.says(r.self, text, 0)
			r.says(r.self, text, 0)
		}
	})
	r.workers[0].MaxRequests = 1
	r.Start(t.Context())
	tally := r.Wait()
	c := tally.Total()
	require.Equal(t, c.Sent, c.Answered+c.Failed())
	require.LessOrEqual(t, c.Failures[Corrupt], int64(1))
	require.Equal(t, int64(1), c.Answered)
}

// Told to leave, a member goes on behind its last entry, and says again what had not come.
func TestChatToldToLeave(t *testing.T) {
	r := chatServer(t, func(r *room) {
		text, _ := r.hears()
		r.says(r.self, text, 0)
		_, _ = r.hears() // not taken
		closeWith(r.c, serviceRestart)
	})
	r.Start(t.Context())
	tally := r.Wait()
	c := tally.Total()
	require.NoError(t, tally.Err())
	require.Equal(t, int64(4), c.Answered)
	require.Equal(t, int64(3), c.Repeated)
	require.Equal(t, int64(3), c.ToldToClose)
}

func TestChatWorkloadsThatCannotBe(t *testing.T) {
	addr := Addr{Network: "tcp", Address: "127.0.0.1:1"}
	for want, w := range map[string]Workload{
		"longer than a chat":  {Kind: Chat, Bytes: 1025},
		"no server would":     {Kind: Chat, Push: time.Millisecond},
		"no server would do":  {Kind: Echo, Push: time.Second},
		"new connection":      {Kind: Chat, NewConn: true},
		"has a negative numb": {Kind: Chat, RoomSize: -1},
	} {
		w.Addr = addr
		_, err := New(w)
		require.ErrorContains(t, err, want)
	}
}
