package routes

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"
)

// webSocket answers GET /ws with a WebSocket (RFC 6455) that sends each text or
// binary message back. Messages may come in fragments and have at most 1 MiB.
//
// When leaving closes, the message at hand is still answered, as is what had
// arrived behind it; then the peer is sent Close 1012, service restart, and has
// closeWait to answer. Clients connect again on 1012, and reach the next process.
//
// Any origin may connect: the route has nothing but what it is sent.
func webSocket(leaving func(context.Context) <-chan struct{}, closeWait time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !wantsWebSocket(c) {
			return
		}
		var leave <-chan struct{}
		if leaving != nil {
			leave = leaving(c.Request.Context())
		}
		// For the log. Nothing else reads it: the upgrader writes the answer itself,
		// and with it the headers that the middleware has set.
		c.Status(http.StatusSwitchingProtocols)
		up := ws.HTTPUpgrader{Timeout: socketWriteWait, Header: c.Writer.Header()}
		conn, rw, _, err := up.Upgrade(c.Request, c.Writer)
		if conn != nil {
			defer func() { _ = conn.Close() }()
		}
		if err != nil {
			_ = c.Error(err)
			return
		}
		s := newSocket(conn, rw, closeWait)
		s.logPanic = func(v any) {
			log := Logger(c)
			log.Error().Str("panic", fmt.Sprint(v)).Msg("panic in websocket watcher")
		}
		if err := s.serve(leave); err != nil {
			_ = c.Error(err)
		}
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
