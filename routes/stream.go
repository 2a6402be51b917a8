package routes

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const streamEvery = 50 * time.Millisecond

// stream sends "chunk 0", "chunk 1", … every 50 ms while ms milliseconds have not
// passed, then "end", each as a line that is flushed. How many there are depends on
// ms alone, the ceiling of ms/50, so that a client can tell a whole stream from a
// cut one.
func stream(c *gin.Context) {
	total, ok := millis(c)
	if !ok {
		return
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // or nginx would collect the lines
	c.Status(http.StatusOK)

	start := time.Now()
	timer := time.NewTimer(total)
	defer timer.Stop()
	for at := time.Duration(0); at < total; at += streamEvery {
		if !line(c, "chunk "+strconv.Itoa(int(at/streamEvery))) {
			return
		}
		// Counted from the start, so that slow writes do not add up.
		timer.Reset(time.Until(start.Add(min(at+streamEvery, total))))
		select {
		case <-timer.C:
		case <-c.Request.Context().Done():
			_ = c.Error(context.Cause(c.Request.Context())) // which has the connection cut
			return
		}
	}
	line(c, "end")
}

// line reports whether the text could be sent; if not it has told the request.
func line(c *gin.Context, text string) bool {
	if _, err := c.Writer.WriteString(text + "\n"); err != nil {
		_ = c.Error(err)
		return false
	}
	c.Writer.Flush()
	return true
}
