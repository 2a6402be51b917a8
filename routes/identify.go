package routes

import (
	"strconv"

	"github.com/gin-gonic/gin"
)

// identify names the process on each answer, so that a client can tell which
// generation served it. Off by default: a PID is nothing a stranger should learn.
func identify(pid, generation int) gin.HandlerFunc {
	p, g := strconv.Itoa(pid), strconv.Itoa(generation)
	return func(c *gin.Context) {
		h := c.Writer.Header()
		h.Set("X-Pid", p)
		h.Set("X-Generation", g)
		c.Next()
	}
}
