package routes

import (
	"bytes"
	"cmp"
	"net/http"

	"github.com/gin-gonic/gin"
)

// echoGrow bounds the memory that a declared length alone can claim.
const echoGrow = 1 << 20

// echo answers the body it was sent, under the same content type. It is held in
// memory, within the body limit: over HTTP/1.1 most clients do not read before
// they have sent everything, and a streamed echo would wait for them for ever.
func echo(c *gin.Context) {
	var body bytes.Buffer
	body.Grow(int(min(max(c.Request.ContentLength, 0), echoGrow)) + bytes.MinRead)
	if _, err := body.ReadFrom(c.Request.Body); err != nil {
		failBody(c, err)
		return
	}
	// What comes back is the sender's: a browser must take it for what the sender
	// called it, not for the script it looks like.
	c.Header("X-Content-Type-Options", "nosniff")
	write(c, http.StatusOK, cmp.Or(c.GetHeader("Content-Type"), "application/octet-stream"), body.Bytes())
}
