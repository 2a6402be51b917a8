package routes

import (
	"crypto/rand"
	"net/http"

	"github.com/gin-gonic/gin"
)

const (
	headerRequestID = "X-Request-Id"
	maxRequestID    = 128
)

// Keys under which the middleware keeps what it knows in the gin.Context. They
// are of a private type, so no other package's key can be the same.
type contextKey int

const (
	keyRequestID contextKey = iota
	keyClientGone
	keyMoved
)

// RequestID returns the id of the request: the client's X-Request-Id if that was
// sane, otherwise a random one of 26 characters. It is "" where this package's
// middleware is not installed.
func RequestID(c *gin.Context) string { return c.GetString(keyRequestID) }

func requestID() gin.HandlerFunc {
	return func(c *gin.Context) {
		id := ""
		// Of two ids no one can say which is meant: neither is taken.
		if given := c.Request.Header[http.CanonicalHeaderKey(headerRequestID)]; len(given) == 1 {
			id = given[0]
		}
		if !saneRequestID(id) {
			id = rand.Text()
		}
		c.Set(keyRequestID, id)
		c.Writer.Header().Set(headerRequestID, id)
		c.Next()
	}
}

// saneRequestID reports whether a client's id may be repeated in headers, bodies
// and logs. It must be visible ASCII, which keeps out line breaks and terminal
// escapes; the quoting characters of JSON, HTML and the shell are refused too,
// since an id is made to be pasted into all three.
func saneRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for i := range len(id) {
		switch b := id[i]; {
		case b <= ' ' || b > '~':
			return false
		case b == '"', b == '\\', b == '\'', b == '`', b == '<', b == '>', b == '$':
			return false
		}
	}
	return true
}
