package routes

import (
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
)

const maxMillis = 600_000

// slow answers "slow" after ms milliseconds, or stops at once when its context
// ends: what is then answered is the deadline middleware's decision.
func slow(c *gin.Context) {
	d, ok := millis(c)
	if !ok {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		write(c, http.StatusOK, "text/plain; charset=utf-8", []byte("slow"))
	case <-c.Request.Context().Done():
	}
}

// millis reads the query parameter ms, a whole number from 0 to 600000. If it is
// anything else, millis has answered 400.
func millis(c *gin.Context) (time.Duration, bool) {
	n, err := strconv.ParseUint(c.Query("ms"), 10, 32)
	if err != nil || n > maxMillis {
		Fail(c, http.StatusBadRequest, "bad_parameter", "a parameter of the query is missing or wrong",
			Field{"ms", "must be a whole number from 0 to " + strconv.Itoa(maxMillis)})
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}
