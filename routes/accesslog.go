package routes

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
)

// Bounds of what a client can make one log line carry.
const (
	maxLoggedPath   = 1024
	maxLoggedMethod = 32
)

// Logger returns the request's logger: the engine's, with the request's id stamped on
// it. Code that knows nothing of Gin finds the same one in the request's context, by
// zerolog.Ctx. It writes nothing where this package's middleware is not installed.
func Logger(c *gin.Context) zerolog.Logger {
	if c.Request == nil {
		return zerolog.Nop()
	}
	return *zerolog.Ctx(c.Request.Context())
}

// accessLog writes one line for each request, when it has ended. Levels: error
// for 5xx, warn for 4xx, info for the rest, where 499 belongs to the rest, since
// clients leave all the time, and a probe's 503 is a warning, since it is the
// right answer of a process that drains.
//
// The query string and the headers are never logged: that is where tokens are.
func accessLog(log zerolog.Logger) gin.HandlerFunc {
	return func(c *gin.Context) {
		start := time.Now()
		log := log.With().Str("request_id", RequestID(c)).Logger()
		c.Request = c.Request.WithContext(log.WithContext(c.Request.Context()))
		finished := false
		// Deferred, so that a request that is aborted by panic has its line too.
		defer func() { logRequest(&log, c, time.Since(start), !finished) }()
		c.Next()
		finished = true
	}
}

func logRequest(log *zerolog.Logger, c *gin.Context, took time.Duration, aborted bool) {
	if handoff.Own(c.Request.Context()) {
		return
	}
	status := statusOf(c, aborted)
	e := log.WithLevel(levelOf(status, c.FullPath(), aborted))
	if !e.Enabled() {
		return
	}
	bytes := max(c.Writer.Size(), 0)
	if c.Request.Method == http.MethodHead {
		bytes = 0 // written by the handler, dropped by net/http
	}
	e.Str("method", clip(c.Request.Method, maxLoggedMethod)).
		Str("path", clip(c.Request.URL.Path, maxLoggedPath)).
		Str("route", c.FullPath()).
		Int("status", status).
		Int("bytes", bytes).
		Float64("duration_ms", float64(took.Microseconds())/1000).
		Str("peer", c.Request.RemoteAddr)
	if aborted {
		e.Bool("aborted", true)
	}
	if c.GetBool(keyMoved) {
		e.Bool("moved", true) // another process goes on, and logs how it ends
	}
	if last := c.Errors.Last(); last != nil {
		e.AnErr("error", last.Err)
	}
	e.Msg("request")
}

// statusOf is the status of a request that has ended; aborted: by a panic.
func statusOf(c *gin.Context, aborted bool) int {
	switch {
	case c.GetBool(keyClientGone):
		return StatusClientGone
	case aborted && !c.Writer.Written():
		// The client saw its connection closed. No status was sent, and the 200
		// that Gin presumes would be a lie.
		return http.StatusInternalServerError
	}
	return c.Writer.Status()
}

// resumed is a request that began in another process, where its own line was
// written when its connection moved.
type resumed struct {
	route, id string
	start     time.Time // here
	peer      net.Addr
	messages  int64 // dealt with, from the first process on
}

// logResumed writes the line for what became of it here. Its message differs, so
// that there is still one line "request" for each request.
func logResumed(log zerolog.Logger, r resumed, err error) {
	e := log.Info().
		Str("request_id", r.id).
		Str("method", http.MethodGet).
		Str("route", r.route).
		Int("status", http.StatusSwitchingProtocols).
		Int64("messages", r.messages).
		Float64("duration_ms", float64(time.Since(r.start).Microseconds())/1000)
	if r.peer != nil {
		e.Str("peer", r.peer.String())
	}
	if errors.Is(err, handoff.ErrMoved) {
		e.Bool("moved", true)
	} else if err != nil {
		e.AnErr("error", err)
	}
	e.Msg("resumed request")
}

func levelOf(status int, route string, aborted bool) zerolog.Level {
	switch {
	case status == StatusClientGone:
		return zerolog.InfoLevel
	case aborted:
		return zerolog.ErrorLevel
	case status >= 500 && (route == "/readyz" || route == "/health"):
		return zerolog.WarnLevel
	case status >= 500:
		return zerolog.ErrorLevel
	case status >= 400:
		return zerolog.WarnLevel
	}
	return zerolog.InfoLevel
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
