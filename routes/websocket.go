package routes

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
)

// sockets is what a WebSocket needs of the process, whichever route it is of.
type sockets struct {
	log       zerolog.Logger
	leaving   func(context.Context) <-chan struct{}
	closeWait time.Duration
	resume    func(name string, r handoff.Resume) // nil: none moves
}

// accept answers the handshake with 101, or says what is wrong with it and returns
// nil. The caller closes the socket's connection. limit is the largest message.
func (k sockets) accept(c *gin.Context, limit int64) (s *socket, leave <-chan struct{}) {
	if !wantsWebSocket(c) {
		return nil, nil
	}
	leave = k.leave(c.Request.Context())
	// For the log. Nothing else reads it: the upgrader writes the answer itself,
	// and with it the headers that the middleware has set.
	c.Status(http.StatusSwitchingProtocols)
	up := ws.HTTPUpgrader{Timeout: socketWriteWait, Header: c.Writer.Header()}
	conn, rw, _, err := up.Upgrade(c.Request, c.Writer)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		_ = c.Error(err)
		return nil, nil
	}
	s = newSocket(conn, rw, limit, k.closeWait)
	s.logPanic = k.panicLogger(RequestID(c))
	return s, leave
}

// again makes a socket of a connection that another process had.
func (k sockets) again(ctx context.Context, conn net.Conn, id string, limit int64) (s *socket, leave <-chan struct{}) {
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	s = newSocket(conn, rw, limit, k.closeWait)
	s.logPanic = k.panicLogger(id)
	return s, k.leave(ctx)
}

func (k sockets) leave(ctx context.Context) <-chan struct{} {
	if k.leaving == nil {
		return nil
	}
	return k.leaving(ctx)
}

func (k sockets) panicLogger(id string) func(v any) {
	return func(v any) {
		k.log.Error().Str("request_id", id).Str("panic", fmt.Sprint(v)).Msg("panic in websocket watcher")
	}
}

// served tells the request what came of its socket.
func served(c *gin.Context, err error) {
	switch {
	case errors.Is(err, handoff.ErrMoved):
		c.Set(keyMoved, true)
	case err != nil:
		_ = c.Error(err)
	}
}

// wantsWebSocket checks the handshake, RFC 6455 section 4.2.1, and answers if it
// is none. The upgrader checks again, but it takes the connection first, and its
// errors are then not in our form.
func wantsWebSocket(c *gin.Context) bool {
	r := c.Request
	_, canHijack := unwrap(c.Writer).(http.Hijacker)
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-Websocket-Key"))
	switch {
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor > 1 || !canHijack:
		Fail(c, http.StatusBadRequest, "websocket_needs_http11", "a WebSocket here needs HTTP/1.1")
	case !hasToken(r.Header.Get("Connection"), "upgrade") || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		c.Header("Connection", "Upgrade")
		c.Header("Upgrade", "websocket")
		Fail(c, http.StatusUpgradeRequired, "websocket_only", "this path speaks WebSocket only")
	case r.Header.Get("Sec-Websocket-Version") != "13":
		c.Header("Sec-Websocket-Version", "13")
		Fail(c, http.StatusUpgradeRequired, "websocket_version", "this service speaks WebSocket version 13")
	case err != nil || len(key) != 16:
		Fail(c, http.StatusBadRequest, "websocket_key", "Sec-WebSocket-Key must be 16 bytes in base64")
	case r.Host == "": // HTTP lets it be empty, the upgrader does not
		Fail(c, http.StatusBadRequest, "websocket_host", "a WebSocket needs a Host header")
	default:
		return true
	}
	return false
}

func hasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}
