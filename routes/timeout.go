package routes

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// errTimeout is the cause of a request's context that ended by RequestTimeout.
var errTimeout = errors.New("routes: request timeout")

// untimed are the routes whose length is the client's business: a stream and a
// WebSocket last as long as they are wanted, and an upload as long as the client's
// line makes it. They end by their own rules, and by the drain deadline of the
// process.
var untimed = map[string]bool{
	"/stream": true, "/events": true, "/ws": true, "/chat": true, "/upload": true,
}

// deadline gives the request's context a deadline of d, unless d is 0 or the
// route is exempt, and answers for handlers that gave up because their context
// ended. It is a deadline for the context and for reading the body, not a second
// goroutine as in http.TimeoutHandler: there the handler runs on behind an answer
// that was given, and a drain could not know of it.
func deadline(d time.Duration) gin.HandlerFunc {
	return func(c *gin.Context) {
		ctx := c.Request.Context()
		if d > 0 && !untimed[c.FullPath()] {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, d, errTimeout)
			defer cancel()
			c.Request = c.Request.WithContext(ctx)
			if c.Request.Body != nil && c.Request.Body != http.NoBody {
				body := &timedBody{ReadCloser: c.Request.Body, ctx: ctx, conn: http.NewResponseController(c.Writer)}
				defer body.disarm()
				c.Request.Body = body
			}
		}
		c.Next()
		if !hijacked(c) {
			answerForContext(ctx, c)
		}
	}
}

// answerForContext decides what becomes of a request whose context has ended. The
// cause is looked at, not only Err: the first reason to end counts, and a client
// that goes away after its time was up was still given a 503.
//
// A handler that stopped halfway through its answer says so with c.Error. Then the
// connection is cut: ended in good order, half an answer would pass for a whole one.
func answerForContext(ctx context.Context, c *gin.Context) {
	cause := context.Cause(ctx)
	lost := lostWhileWriting(c)
	if cause == nil && !lost {
		return
	}
	halfway := c.Writer.Written() && len(c.Errors) > 0
	switch {
	case errors.Is(cause, errTimeout), errors.Is(cause, context.DeadlineExceeded):
		Fail(c, http.StatusServiceUnavailable, "timeout", "the request took longer than this service allows")
	case errors.Is(cause, context.Canceled), lost:
		// The handler may well have been done: then the client had its answer, and
		// left. It was not done if it wrote nothing, if it stopped halfway, or if all
		// it could answer was an error, which is then likely about the context.
		if !c.Writer.Written() || halfway || c.Writer.Status() >= 500 {
			c.Set(keyClientGone, true)
		}
		// A peer that only closed its sending half still reads: it must not get the
		// empty 200 that net/http makes of silence.
		Fail(c, StatusClientGone, "client_gone", "the client closed the connection before the answer")
	default:
		// The server's own context ended, and gave its own cause.
		Fail(c, http.StatusServiceUnavailable, "stopping", "the service stopped before it could answer")
	}
	if halfway {
		panic(http.ErrAbortHandler)
	}
}

func lostWhileWriting(c *gin.Context) bool {
	for _, e := range c.Errors {
		if connectionLost(e.Err) {
			return true
		}
	}
	return false
}

// timedBody makes reading the body end with the context. A read that waits for a
// slow client knows no context; the connection's read deadline ends it. That
// deadline is only touched while the body is being read: afterwards the
// connection's next reader is net/http, waiting for the client to go or to ask
// again.
type timedBody struct {
	io.ReadCloser
	ctx  context.Context // the request's; the reader lives as long as the request
	conn *http.ResponseController

	mu    sync.Mutex // guards what follows: a proxying handler reads on another goroutine
	armed bool
	stop  func() bool   // nil while not armed, and after disarm
	fired chan struct{} // closed when the deadline has been set
}

func (b *timedBody) Read(p []byte) (int, error) {
	b.arm()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.disarm()
	}
	return n, err
}

func (b *timedBody) Close() error {
	b.disarm()
	return b.ReadCloser.Close()
}

func (b *timedBody) arm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.armed {
		return
	}
	b.armed = true
	b.fired = make(chan struct{})
	b.stop = context.AfterFunc(b.ctx, b.endRead)
}

func (b *timedBody) endRead() {
	defer close(b.fired)
	_ = b.conn.SetReadDeadline(time.Unix(1, 0)) // not supported: then nothing can be done about it
}

// disarm returns when the read deadline will no longer be touched, for good.
func (b *timedBody) disarm() {
	b.mu.Lock()
	b.armed = true
	stop := b.stop
	b.stop = nil
	b.mu.Unlock()
	if stop != nil && !stop() {
		<-b.fired
	}
}

// failBody ends a request whose body could not be read to its end.
func failBody(c *gin.Context, err error) {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		failTooLarge(c, tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Not a 503: the service was there, the request was not.
		Fail(c, http.StatusRequestTimeout, "body_timeout", "the request's body did not arrive in time")
	case c.Request.Context().Err() != nil:
		_ = c.Error(err)
		c.Abort() // the deadline middleware knows why the context ended, and answers
	default:
		Fail(c, http.StatusBadRequest, "body_unreadable", "the request's body could not be read to its end")
	}
}
