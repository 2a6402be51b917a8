package routes

import (
	"context"
	"net/http"
	"os"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
)

// Deps is what the engine needs of the process around it. The zero value works:
// it logs nothing and limits nothing.
type Deps struct {
	// Log receives the access log and the panics. The request's id is added by
	// this package, whatever identifies the process is the caller's to stamp.
	Log zerolog.Logger

	// Build is the build id that /version reports.
	Build string
	// Generation is the process's number in the chain of upgrades, from 1.
	Generation int
	// PID is what /version and X-Pid report. 0 means os.Getpid().
	PID int
	// Started is when the process began. Zero means the call of New.
	Started time.Time

	// Ready decides /readyz: nil is ready, the text of an error is the reason in
	// the 503, for instance "starting", "draining", "withdrawing". It is called for
	// each probe and must not block. A nil function means always ready.
	Ready func() error

	// Leaving returns a channel that is closed when it is the turn of the
	// connection that carries ctx's request to leave, because the process will
	// be replaced. It is called once for each WebSocket. A nil function, or a nil
	// channel, means never.
	Leaving func(ctx context.Context) <-chan struct{}

	// Resume registers who goes on with a hijacked connection that comes from
	// another process. A nil function means that no connection of these routes moves.
	Resume func(name string, r handoff.Resume)
	// State registers what the next process is to know. A nil function means that it
	// begins with empty rooms.
	State func(handoff.State) error
	// Relay opens the conversation that keeps the rooms of two processes together. Its
	// messages arrive in order, and receive is called by one goroutine; send returns an
	// error while there is no other process; gone is called behind the last receive when
	// that has exited or failed. It works once State has been saved, in the old process,
	// and from the loading on, in the new one. A nil function means that members of the
	// rooms do not move.
	Relay func(name string, receive func(data []byte), gone func()) (send func(data []byte) error)

	// Metrics gets the counts and durations of requests: see [Metrics]. Nil means none.
	Metrics prometheus.Registerer

	// Identify puts X-Pid and X-Generation on every answer.
	Identify bool

	// RequestTimeout bounds a request from its arrival here to its answer; /stream,
	// /ws, /chat, /events and /upload are exempt. 0 means none.
	RequestTimeout time.Duration

	// BodyLimit is the largest request body in bytes; a larger one is answered
	// 413. 0 means none, and then /echo holds in memory whatever it is sent.
	BodyLimit int64

	// Token is the bearer token that POST /orders asks for. "" protects nothing.
	Token string

	// CloseWait bounds how long a WebSocket that is told to leave may take for the
	// message it is on, and again for the peer's answer to the Close frame.
	// 0 means 5 seconds.
	CloseWait time.Duration
}

// New returns the engine with the middleware, the probes and the demonstration
// routes installed. Routes added to it later run behind the same middleware.
//
// New takes Gin out of debug mode, unless the environment variable GIN_MODE asks
// for a mode: debug mode prints every route to standard output, where a service's
// log may be going. Gin keeps its mode per process, so this holds for other
// engines too. Any other mode is left as it is.
func New(deps Deps) *gin.Engine {
	if os.Getenv(gin.EnvGinMode) == "" && gin.Mode() == gin.DebugMode {
		gin.SetMode(gin.ReleaseMode)
	}
	if deps.PID == 0 {
		deps.PID = os.Getpid()
	}
	if deps.Started.IsZero() {
		deps.Started = time.Now()
	}
	if deps.CloseWait <= 0 {
		deps.CloseWait = 5 * time.Second
	}

	r := gin.New()
	// Without this a client could write any address it likes into the log.
	_ = r.SetTrustedProxies(nil) // fails only on an address that does not parse
	r.HandleMethodNotAllowed = true
	// Gin redirects before any middleware has run: such an answer would have no
	// request id, no identity and no log line, and would trust X-Forwarded-Prefix.
	r.RedirectTrailingSlash = false

	// The id comes first, since all that follows names it; then the identity,
	// before anybody can write. The metrics and the log are outside of whatever decides a status.
	// Recovery is outside of what may panic and inside of the log, so that a
	// panic's 500 is logged as one. The deadline is outside of the body limit,
	// since it bounds the reading too.
	r.Use(requestID())
	if deps.Identify {
		r.Use(identify(deps.PID, deps.Generation))
	}
	if deps.Metrics != nil {
		if m, err := Metrics(deps.Metrics); err != nil {
			deps.Log.Error().Err(err).Msg("requests are not counted")
		} else {
			r.Use(m)
		}
	}
	r.Use(accessLog(deps.Log), recovery(), deadline(deps.RequestTimeout))
	if deps.BodyLimit > 0 {
		r.Use(bodyLimit(deps.BodyLimit))
	}
	r.NoRoute(noRoute)
	r.NoMethod(noMethod)

	reads := []string{http.MethodGet, http.MethodHead}
	r.Match(reads, "/livez", livez)
	r.Match(reads, "/readyz", readyz(deps.Ready))
	r.Match(reads, "/health", readyz(deps.Ready))
	r.Match(reads, "/version", version(deps))

	r.Match(reads, "/", hello)
	r.GET("/slow", slow)
	r.GET("/stream", stream)
	k := sockets{log: deps.Log, leaving: deps.Leaving, closeWait: deps.CloseWait, resume: deps.Resume}
	r.GET("/ws", webSocket(k))
	hub := newChatHub()
	if deps.Relay != nil {
		hub.send = deps.Relay(chatName, hub.receive, hub.gone)
	}
	if deps.State != nil {
		if err := deps.State(hub.state()); err != nil {
			deps.Log.Error().Err(err).Msg("chat rooms are not passed on")
		}
	}
	r.GET("/chat", chat(k, hub))
	r.GET("/events", events(deps.Leaving, hub))
	r.POST("/echo", echo)
	r.POST("/upload", upload)
	protected := r.Group("/")
	if deps.Token != "" {
		protected.Use(RequireToken(deps.Token))
	}
	protected.POST("/orders", createOrder(newOrderRules()))
	return r
}
