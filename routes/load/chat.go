package load

import (
	"encoding/json"
	"net/url"
	"strconv"

	"github.com/gobwas/ws"
)

// maxChatText is the longest message that GET /chat takes.
const maxChatText = 1024

// membership is what a worker of a Chat knows of its room. It outlives the connection:
// a client that is sent on takes the log up behind the last entry it had.
type membership struct {
	room, name string
	last       uint64          // number of the last entry; 0: there was none yet
	unsure     map[string]bool // own messages that were lost, and may still come, once
	bad        error           // what was found wrong while nothing was asked
}

// entry is one of the room's, as the server sends it.
type entry struct {
	Seq  uint64 `json:"seq"`
	Room string `json:"room"`
	From string `json:"from"`
	Text string `json:"text"`
}

// join gives the worker its place: RoomSize neighbors share a room.
func (w *worker) join() {
	w.chat = membership{
		room: w.prefix + "-" + strconv.Itoa(w.index/w.RoomSize),
		name: "w" + strconv.Itoa(w.index), unsure: map[string]bool{},
	}
}

// socketURL is what the worker's WebSocket asks for.
func (w *worker) socketURL() *url.URL {
	u := &url.URL{Scheme: "ws", Host: w.host, Path: "/ws"}
	if w.Kind != Chat {
		return u
	}
	q := url.Values{"room": {w.chat.room}, "name": {w.chat.name}}
	if w.Push > 0 {
		q.Set("push", strconv.FormatInt(w.Push.Milliseconds(), 10))
	}
	if w.chat.last > 0 {
		q.Set("since", strconv.FormatUint(w.chat.last, 10))
	}
	u.Path, u.RawQuery = "/chat", q.Encode()
	return u
}

// enter checks an entry against all that came before. It reports whether it is the
// message at hand; what is the worker's own and not that, and was not lost before, has
// come again, or for somebody else.
func (w *worker) enter(head ws.Header, payload []byte) (own bool, err error) {
	c := &w.chat
	var e entry
	if head.OpCode != ws.OpText || !head.Fin || json.Unmarshal(payload, &e) != nil || e.Room != c.room {
		return false, fail(Corrupt, "%v frame that is no entry of room %s: %s", head.OpCode, c.room, excerpt(payload))
	}
	if e.Seq == 0 || c.last > 0 && e.Seq != c.last+1 {
		return false, fail(Corrupt, "entry %d of room %s came behind %d", e.Seq, c.room, c.last)
	}
	c.last = e.Seq
	switch {
	case e.From != c.name:
		return false, nil
	case e.Text == string(w.msg) && w.posted:
		w.posted = false
		return true, nil
	case c.unsure[e.Text]:
		delete(c.unsure, e.Text)
		return false, nil
	}
	return false, fail(Corrupt, "entry %d of room %s is our own, and not the message at hand: %s", e.Seq, c.room, excerpt([]byte(e.Text)))
}

// wrong takes what was found wrong since the last request.
func (c *membership) wrong() error {
	err := c.bad
	c.bad = nil
	return err
}
