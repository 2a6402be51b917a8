package routes

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
)

// said is an entry as a client gets it.
type said struct {
	Seq  uint64 `json:"seq"`
	Room string `json:"room"`
	From string `json:"from"`
	Text string `json:"text"`
}

func (p peer) says(text string) { p.send(ws.NewTextFrame([]byte(text))) }

// hears reads the next entry.
func (p peer) hears() said {
	p.t.Helper()
	f, err := ws.ReadFrame(p.rd)
	require.NoError(p.t, err)
	require.Equal(p.t, ws.OpText, f.Header.OpCode, "%s", f.Payload)
	var s said
	require.NoError(p.t, json.Unmarshal(f.Payload, &s), "%s", f.Payload)
	return s
}

func (p peer) bye() {
	p.t.Helper()
	p.send(closeFrame(1000, ""))
	p.expectClose(1000)
	p.expectEOF()
}

func TestChat(t *testing.T) {
	g := newGeneration(t, Deps{RequestTimeout: time.Minute})
	ann, ben := g.open("/chat?room=r&name=ann"), g.open("/chat?room=r&name=ben")
	other := g.open("/chat?room=other&name=ann")
	ann.says("hé <you>\n\t\"there\"")
	want := said{1, "r", "ann", "hé <you>\n\t\"there\""}
	require.Equal(t, want, ann.hears())
	require.Equal(t, want, ben.hears())
	ben.says("2")
	require.Equal(t, said{2, "r", "ben", "2"}, ann.hears())
	require.Equal(t, said{2, "r", "ben", "2"}, ben.hears())
	other.says("elsewhere")
	require.Equal(t, said{1, "other", "ann", "elsewhere"}, other.hears())

	late := g.open("/chat?room=r&name=late")
	again := g.open("/chat?room=r&name=again&since=1")
	lost := g.open("/chat?room=r&name=lost&since=99")
	require.Equal(t, said{2, "r", "ben", "2"}, again.hears())
	require.Equal(t, want, lost.hears(), "a number that the log has not reached: from its beginning")
	require.Equal(t, uint64(2), lost.hears().Seq)
	ann.says("3")
	for _, p := range []peer{ann, ben, late, again, lost} {
		require.Equal(t, said{3, "r", "ann", "3"}, p.hears())
		p.bye()
	}
	other.bye()
}

func TestChatRefuses(t *testing.T) {
	g := newGeneration(t, Deps{})
	for name, tc := range map[string]struct {
		frame ws.Frame
		code  ws.StatusCode
	}{
		"binary":    {ws.NewBinaryFrame([]byte("x")), 1003},
		"empty":     {text(""), 1008},
		"control":   {text("a\x00b"), 1008},
		"too large": {text(strings.Repeat("x", chatTextLimit+1)), 1009},
		"not UTF-8": {text("\xff"), 1007},
	} {
		t.Run(name, func(t *testing.T) {
			p := g.open("/chat?room=r&name=ann")
			p.t = t
			p.send(tc.frame)
			p.expectClose(tc.code)
		})
	}
	srv := start(t, New(Deps{}))
	long := strings.Repeat("x", 33)
	for query, fields := range map[string][]string{
		"":                                       {"room", "name"},
		"?room=a/b&name=server":                  {"room", "name"},
		"?room=" + long + "&name=" + long:        {"room", "name"},
		"?room=r&name=n&push=19&since=-1":        {"push", "since"},
		"?room=r&name=n&push=60001&since=latest": {"push", "since"},
	} {
		e := requireError(t, do(t, srv, "GET", "/chat"+query, ""), 400, "invalid_query")
		var named []string
		for _, f := range e.Fields {
			named = append(named, f.Field)
		}
		require.Equal(t, fields, named)
	}
	requireError(t, do(t, srv, "GET", "/chat?room=r&name=n", ""), 426, "websocket_only")
	requireError(t, do(t, srv, "GET", "/events", "", "Last-Event-ID", "x"), 400, "invalid_query")
}

// Pushes come while there are members, and one member's wish is the room's.
func TestChatPushes(t *testing.T) {
	g := newGeneration(t, Deps{})
	a := g.open("/chat?room=r&name=a&push=20")
	b := g.open("/chat?room=r&name=b&since=0")
	for i := range uint64(3) {
		for _, p := range []peer{a, b} {
			s := p.hears()
			require.Equal(t, said{i + 1, "r", "server", s.Text}, s)
			_, err := time.Parse(time.RFC3339, s.Text)
			require.NoError(t, err)
		}
	}
	require.NoError(t, a.conn.Close())
	require.NoError(t, b.conn.Close())
	require.Eventually(t, func() bool { return g.Counts().Conns == 0 }, 5*time.Second, time.Millisecond)
}

// A member that does not read is closed when the log has left it behind; the others
// are not held up.
func TestChatSlowMember(t *testing.T) {
	h := newChatHub()
	r, err := h.join("r", 0)
	require.NoError(t, err)
	for range chatHistory + 1 {
		require.NoError(t, h.post(r, &chatEntry{From: "a", Text: "x"}))
	}
	_, _, bye, ok := h.after(r, 0)
	require.False(t, ok)
	require.Equal(t, statusTryAgainLater, bye.code)
	batch, _, _, ok := h.after(r, 1)
	require.True(t, ok)
	require.Len(t, batch, chatBatch)
	require.Equal(t, uint64(2), batch[0].Seq)
	zero := uint64(0)
	require.Equal(t, uint64(1), h.begin(r, &zero), "what is forgotten is skipped")
	h.leave(r)
}

func TestChatIsBounded(t *testing.T) {
	h := newChatHub()
	var rooms []*chatRoom
	for i := range chatRooms {
		r, err := h.join(fmt.Sprint("r", i), 0)
		require.NoError(t, err)
		rooms = append(rooms, r)
	}
	_, err := h.join("one more", 0)
	require.ErrorIs(t, err, errChatFull)
	h.leave(rooms[7])
	h.leave(rooms[3])
	_, err = h.join("one more", 0)
	require.NoError(t, err)
	require.NotContains(t, h.rooms, "r7", "empty for longest")
	require.Contains(t, h.rooms, "r3")
	for h.members < chatMembers {
		_, err = h.join("r1", 0)
		require.NoError(t, err)
	}
	_, err = h.join("r1", 0)
	require.ErrorIs(t, err, errChatFull)
	h.rejoin("r1", 0)
}

// event reads one server-sent event, as far as we send them.
func event(t *testing.T, p peer) (id, data string) {
	t.Helper()
	for {
		line, err := p.rd.ReadString('\n')
		require.NoError(t, err)
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "id":
			id = value
		case "data":
			data = value
		case "retry":
			if value == "0" {
				return "", "goodbye"
			}
		case "":
			if id != "" {
				return id, data
			}
		}
	}
}

func subscribe(t *testing.T, url, last string) peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/events?room=r&last_event_id=1", nil)
	require.NoError(t, err)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	return peer{t: t, rd: bufio.NewReader(resp.Body)}
}

func TestEvents(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	g := newGeneration(t, Deps{RequestTimeout: time.Minute})
	url := "http://" + g.ln.Addr().String()
	a := g.open("/chat?room=r&name=a")
	for _, s := range []string{"one", "two", "three"} {
		a.says(s)
		a.hears()
	}
	first := subscribe(t, url, "")
	again := subscribe(t, url, "2")
	id, data := event(t, first)
	require.Equal(t, "2", id)
	require.Equal(t, `{"seq":2,"room":"r","from":"a","text":"two"}`, data)
	for _, p := range []peer{first, again} {
		id, _ = event(t, p)
		require.Equal(t, "3", id)
	}
	a.says("four")
	a.hears()
	for _, p := range []peer{first, again} {
		_, data = event(t, p)
		require.Equal(t, `{"seq":4,"room":"r","from":"a","text":"four"}`, data)
	}
	a.bye()
	done := make(chan handoff.DrainReport)
	go func() { done <- g.Drain(context.Background(), handoff.DrainOptions{Timeout: 10 * time.Second}) }()
	for _, p := range []peer{first, again} {
		_, data = event(t, p)
		require.Equal(t, "goodbye", data)
		_, err := io.Copy(io.Discard, p.rd)
		require.NoError(t, err, "the stream ends in good order")
	}
	require.Empty(t, (<-done).Cut)
}
