package routes

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"syscall"

	"github.com/gin-gonic/gin"
)

// recovery turns a panic into a 500, or, when part of an answer is out already,
// into a cut connection: a client must not take half an answer for a whole one.
// It is logged with its stack, which JSON keeps on one line.
func recovery() gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			err, _ := v.(error)
			if errors.Is(err, http.ErrAbortHandler) {
				// net/http's own way to cut a connection, and it logs nothing then.
				panic(v)
			}
			if connectionLost(err) {
				// A handler that panics on a write error. There is no one to answer.
				c.Set(keyClientGone, true)
				c.Abort()
				return
			}
			markPanic(c.Writer)
			log := Logger(c)
			log.Error().
				Str("panic", fmt.Sprint(v)).
				Bytes("stack", debug.Stack()).
				Msg("panic in handler")
			if hijacked(c) {
				c.Abort() // the connection is no longer net/http's to cut
				return
			}
			if c.Writer.Written() {
				panic(http.ErrAbortHandler)
			}
			Fail(c, http.StatusInternalServerError, "internal", "something went wrong here; the log has it under the request id")
		}()
		c.Next()
	}
}

// markPanic tells whoever counts the panics of this process: below, one that is
// answered in good order looks like any 500.
func markPanic(w http.ResponseWriter) {
	for {
		if m, ok := w.(interface{ MarkPanic() }); ok {
			m.MarkPanic()
			return
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return
		}
		w = u.Unwrap()
	}
}

// connectionLost reports whether err says that the peer's end is gone.
func connectionLost(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// hijacked reports whether the connection was taken from net/http. The only
// route that does so answers 101.
func hijacked(c *gin.Context) bool {
	return c.Writer.Written() && c.Writer.Status() == http.StatusSwitchingProtocols
}
