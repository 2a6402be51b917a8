package routes

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"
)

// chatName is what the chat's sockets, state and relay go under.
const chatName = "chat"

// Bounds of the chat. Together with those of a room they bound its memory, and the
// state that an upgrade carries, in chatState.
const (
	chatMembers   = 4096 // in one process, GET /events included
	chatTextLimit = 1024 // bytes in a message
	chatPushLeast = 20   // ms
	chatPushMost  = 60_000
	chatBatch     = 64 // entries in one write
)

// chatServer is who the pushes are from.
const chatServer = "server"

var chatToken = regexp.MustCompile(`^[A-Za-z0-9._-]{1,32}$`)

// chat answers GET /chat?room=NAME&name=WHO with a WebSocket that is a member of a
// room. A room is a log of entries, numbered from 1; the member gets each one from
// its arrival on, in order, consecutively and once, as a text message:
//
//	{"seq":7,"room":"NAME","from":"WHO","text":"…"}
//
// Each text message of the client, 1 to 1024 bytes of UTF-8 without control characters
// other than tab and newline, becomes an entry, which comes back to its sender as
// well. A message that breaks these rules ends in Close 1003, 1007, 1008 or 1009. Names
// have 1 to 32 letters, digits, dots, hyphens and underscores; "server" is taken: with
// &push=MS, 20 to 60000, the room gets an entry from it so often, as long as it has
// members. The last member to ask for it decides how often.
//
// &since=SEQ begins behind that entry, for a client that connects again. What is no
// longer in the log, the last 1000 entries, is skipped, which shows in the numbers; a
// number that the log has not reached means that it has begun anew, in a crash, and
// then so does the member. One that does not keep up with the log is closed with 1013.
//
// In an upgrade members move one by one to the next process, and the room goes on
// without a gap: see chatHub. One that cannot move gets Close 1012. Until then it has
// all its own entries back: a message whose entry has not come was not taken.
//
// Any origin may connect: the route has nothing but what it is sent.
func chat(k sockets, hub *chatHub) gin.HandlerFunc {
	if k.resume != nil {
		k.resume(chatName, func(ctx context.Context, conn net.Conn, b []byte) { k.resumeChat(ctx, conn, b, hub) })
	}
	return func(c *gin.Context) {
		q, ok := parseChat(c, "since")
		if !ok || !wantsWebSocket(c) {
			return
		}
		room, err := hub.join(q.room, q.push)
		if err != nil {
			Fail(c, http.StatusServiceUnavailable, "chat_full", err.Error())
			return
		}
		defer hub.leave(room)
		cursor := hub.begin(room, q.since) // before the client knows that it is in
		s, leave := k.accept(c, chatTextLimit)
		if s == nil {
			return
		}
		defer func() { _ = s.conn.Close() }()
		m := newChatMember(hub, room, s, chatMemberState{
			RequestID: RequestID(c), Room: q.room, Name: q.name, Token: newChatID(), Push: q.push, Cursor: cursor,
		})
		served(c, m.serve(leave, k.resume != nil))
	}
}

// resumeChat goes on with a member that another process had.
func (k sockets) resumeChat(ctx context.Context, conn net.Conn, b []byte, hub *chatHub) {
	start := time.Now()
	var state chatMemberState
	err := json.Unmarshal(b, &state)
	s, leave := k.again(ctx, conn, state.RequestID, chatTextLimit)
	if err == nil {
		room := hub.rejoin(state.Room, state.Push)
		defer hub.leave(room)
		m := newChatMember(hub, room, s, state)
		err = m.serve(leave, true)
		state = m.state
	} else { // it can begin anew
		s.leave(serviceRestart)
		_ = s.serve(leave)
	}
	logResumed(k.log, resumed{route: "/chat", id: state.RequestID, start: start, peer: conn.RemoteAddr(), messages: state.Messages}, err)
}

// chatQuery is what a request for a room says.
type chatQuery struct {
	room, name string
	push       time.Duration
	since      *uint64 // nil: from now on
}

// parseChat reads the query, or answers 400. since is where the number of the last
// entry stands; only members have a name.
func parseChat(c *gin.Context, since string) (q chatQuery, ok bool) {
	q.room = c.Query("room")
	var bad []Field
	if !chatToken.MatchString(q.room) {
		bad = append(bad, Field{"room", "must be 1 to 32 letters, digits, dots, hyphens and underscores"})
	}
	if since == "since" {
		q.name = c.Query("name")
		if !chatToken.MatchString(q.name) || q.name == chatServer {
			bad = append(bad, Field{"name", `must be 1 to 32 letters, digits, dots, hyphens and underscores, and not "server"`})
		}
	}
	if s := c.Query("push"); s != "" {
		ms, err := strconv.Atoi(s)
		if err != nil || ms < chatPushLeast || ms > chatPushMost {
			bad = append(bad, Field{"push", "must be a whole number of milliseconds from 20 to 60000"})
		}
		q.push = time.Duration(ms) * time.Millisecond
	}
	after := c.Query(since)
	if h := c.GetHeader("Last-Event-Id"); since != "since" && h != "" {
		after = h // the more recent one: the query is that of the first connection
	}
	if after != "" {
		n, err := strconv.ParseUint(after, 10, 63)
		if err != nil {
			bad = append(bad, Field{since, "must be the number of an entry"})
		}
		q.since = &n
	}
	if len(bad) > 0 {
		Fail(c, http.StatusBadRequest, "invalid_query", "the query is not valid", bad...)
		return q, false
	}
	return q, true
}

// chatText checks what a member has sent.
func chatText(op ws.OpCode, data []byte) error {
	if op != ws.OpText {
		return farewell{ws.StatusUnsupportedData, "a message is text"}
	}
	if len(data) == 0 {
		return farewell{ws.StatusPolicyViolation, "a message is not empty"}
	}
	for _, b := range data {
		if b < ' ' && b != '\t' && b != '\n' || b == 0x7f {
			return farewell{ws.StatusPolicyViolation, "a message has no control characters"}
		}
	}
	return nil
}

var errChatFull = errors.New("there is no room for another member now; try again later")
