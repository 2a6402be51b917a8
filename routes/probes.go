package routes

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

type probeBody struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

// livez answers 200 {"status":"ok"} for as long as the process can answer at all.
// It looks at nothing: whoever restarts a process that is merely not ready, or
// drains, kills the requests that it still serves.
func livez(c *gin.Context) {
	answerProbe(c, http.StatusOK, probeBody{Status: "ok"})
}

// readyz answers 200 {"status":"ready"}, or 503 {"status":"unready","reason":"…"}.
func readyz(ready func() error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if ready != nil {
			if err := ready(); err != nil {
				answerProbe(c, http.StatusServiceUnavailable, probeBody{"unready", err.Error()})
				return
			}
		}
		answerProbe(c, http.StatusOK, probeBody{Status: "ready"})
	}
}

func answerProbe(c *gin.Context, status int, body probeBody) {
	c.Header("Cache-Control", "no-store")
	writeJSON(c, status, body)
}
