package routes

import (
	"context"
	"encoding/json"
	"net"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"github.com/holdfast-go/holdfast/handoff"
)

// echoName is what an echo socket moves under.
const echoName = "ws"

// echoState is what an echo socket takes along to another process. No message is in
// there: it moves between two.
type echoState struct {
	RequestID string `json:"request_id"`
	Messages  int64  `json:"messages"` // answered so far
}

// webSocket answers GET /ws with a WebSocket (RFC 6455) that sends each text or
// binary message back. Messages may come in fragments and have at most 1 MiB.
//
// In an upgrade it moves to the next process, between two messages, and the client
// sees nothing of it. One that cannot move (under TLS, for example) is told to leave:
// when leaving closes, the message at hand is still answered, as is what had
// arrived behind it; then the peer is sent Close 1012, service restart, and has
// closeWait to answer. Clients connect again on 1012, and reach the next process.
//
// Any origin may connect: the route has nothing but what it is sent.
func webSocket(k sockets) gin.HandlerFunc {
	if k.resume != nil {
		k.resume(echoName, k.resumeEcho)
	}
	return func(c *gin.Context) {
		s, leave := k.accept(c, socketMessageLimit)
		if s == nil {
			return
		}
		defer func() { _ = s.conn.Close() }()
		state := echoState{RequestID: RequestID(c)}
		served(c, k.echo(s, leave, &state))
	}
}

// resumeEcho goes on with an echo socket of another process.
func (k sockets) resumeEcho(ctx context.Context, conn net.Conn, b []byte) {
	start := time.Now()
	var state echoState
	err := json.Unmarshal(b, &state)
	// Whatever the state, the protocol goes on: the count is for the log.
	s, leave := k.again(ctx, conn, state.RequestID, socketMessageLimit)
	if serr := k.echo(s, leave, &state); serr != nil {
		err = serr
	}
	logResumed(k.log, resumed{route: "/ws", id: state.RequestID, start: start, peer: conn.RemoteAddr(), messages: state.Messages}, err)
}

func (k sockets) echo(s *socket, leave <-chan struct{}, state *echoState) error {
	s.onMessage = func(op ws.OpCode, data []byte) error {
		if err := s.write(ws.NewFrame(op, true, data)); err != nil {
			return err
		}
		state.Messages++
		return nil
	}
	if k.resume != nil {
		s.movable(echoName, func() ([]byte, error) { return json.Marshal(state) })
	}
	return s.serve(leave)
}

var _ handoff.Resume = sockets{}.resumeEcho
