package routes

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
)

// bodyLimit refuses bodies of more than limit bytes: at once if the length is
// declared, so that a client that sent Expect: 100-continue need not send it, and
// otherwise when reading crosses the limit. Both close the connection: the rest of
// the body is in the way of the next request.
func bodyLimit(limit int64) gin.HandlerFunc {
	return func(c *gin.Context) {
		if c.Request.ContentLength > limit {
			c.Header("Connection", "close")
			failTooLarge(c, limit)
			return
		}
		if c.Request.Body != nil && c.Request.Body != http.NoBody {
			limitBody(c, limit)
		}
		c.Next()
	}
}

// limitBody makes reads beyond limit fail with *http.MaxBytesError. MaxBytesReader
// tells the server to close the connection by a method that Gin's writer hides;
// it needs the writer beneath.
func limitBody(c *gin.Context, limit int64) {
	c.Request.Body = http.MaxBytesReader(unwrap(c.Writer), c.Request.Body, limit)
}

func failTooLarge(c *gin.Context, limit int64) {
	Fail(c, http.StatusRequestEntityTooLarge, "body_too_large", "the request's body is larger than "+strconv.FormatInt(limit, 10)+" bytes")
}

// unwrap returns the ResponseWriter that net/http made.
func unwrap(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}
