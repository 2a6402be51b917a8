package routes

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	eventsKeepAlive = 15 * time.Second
	// eventsRetry is how soon a client comes back by itself.
	eventsRetry = "retry: 2000\n\n"
	// eventsGoodbye ends a stream whose process is being replaced: come back at once.
	eventsGoodbye = ": service restart\nretry: 0\n\n"
)

// events answers GET /events?room=NAME with the entries of a chat room as server-sent
// events (WHATWG HTML, section 9.2): the entry's number as id, and as data what a
// member of the room gets. It begins with what comes next or, for a client that comes
// back, behind the entry in the header Last-Event-ID, or else &last_event_id=SEQ. &push
// is that of GET /chat. Every 15 seconds without an entry there is a comment.
//
// A stream does not move in an upgrade: it is a response in progress, whose chunks
// net/http counts in the process that began it. It need not, for the protocol has a way
// to go on: when leaving closes, the stream ends in good order with a delay of 0, and
// the client comes back at once, with the number of its last entry, and misses nothing.
// Its connection is between two requests then, and moves like any other.
func events(leaving func(context.Context) <-chan struct{}, hub *chatHub) gin.HandlerFunc {
	return func(c *gin.Context) {
		q, ok := parseChat(c, "last_event_id")
		if !ok {
			return
		}
		room, err := hub.join(q.room, q.push)
		if err != nil {
			Fail(c, http.StatusServiceUnavailable, "chat_full", err.Error())
			return
		}
		defer hub.leave(room)
		var leave <-chan struct{}
		if leaving != nil {
			leave = leaving(c.Request.Context())
		}
		cursor := hub.begin(room, q.since)
		head := c.Writer.Header()
		head.Set("Content-Type", "text/event-stream")
		head.Set("Cache-Control", "no-store")
		head.Set("X-Accel-Buffering", "no") // or nginx would collect the events
		c.Status(http.StatusOK)

		out := eventWriter{c, http.NewResponseController(c.Writer)}
		defer out.done()
		quiet := time.NewTimer(eventsKeepAlive)
		defer quiet.Stop()
		for ok = out.write([]byte(eventsRetry)); ok; {
			batch, more, _, kept := hub.after(room, cursor)
			if !kept { // it does not keep up, or the log has begun anew
				out.write([]byte(eventsGoodbye))
				return
			}
			if len(batch) > 0 {
				ok = out.write(eventsOf(batch))
				cursor = batch[len(batch)-1].Seq
				quiet.Reset(eventsKeepAlive)
				continue
			}
			select {
			case <-more:
			case <-quiet.C:
				ok = out.write([]byte(":\n\n"))
				quiet.Reset(eventsKeepAlive)
			case <-leave:
				out.write([]byte(eventsGoodbye))
				return
			case <-c.Request.Context().Done():
				_ = c.Error(context.Cause(c.Request.Context()))
				return
			}
		}
	}
}

func eventsOf(batch []*chatEntry) []byte {
	var b bytes.Buffer
	for _, e := range batch {
		b.WriteString("id: ")
		b.WriteString(strconv.FormatUint(e.Seq, 10))
		b.WriteString("\ndata: ")
		b.Write(e.wire) // JSON has no line ends
		b.WriteString("\n\n")
	}
	return b.Bytes()
}

// eventWriter writes and flushes, and bounds what a client that does not read can hold
// up.
type eventWriter struct {
	c    *gin.Context
	conn *http.ResponseController
}

func (w eventWriter) write(b []byte) bool {
	_ = w.conn.SetWriteDeadline(time.Now().Add(socketWriteWait)) // not supported: then there is none
	if _, err := w.c.Writer.Write(b); err != nil {
		_ = w.c.Error(err)
		return false
	}
	if err := w.conn.Flush(); err != nil {
		_ = w.c.Error(err)
		return false
	}
	return true
}

// done takes the deadline back: it is the connection's, which may serve on.
func (w eventWriter) done() { _ = w.conn.SetWriteDeadline(time.Time{}) }
