package routes

import (
	"net/http"
	"runtime"
	"time"

	"github.com/gin-gonic/gin"
)

type versionBody struct {
	Build      string    `json:"build"`
	Go         string    `json:"go"`
	Generation int       `json:"generation"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"` // RFC 3339, UTC, whole seconds
}

// version says which process answers. It is how a deploy learns that the new
// generation serves, so no cache may keep it.
func version(deps Deps) gin.HandlerFunc {
	body := versionBody{
		Build:      deps.Build,
		Go:         runtime.Version(),
		Generation: deps.Generation,
		PID:        deps.PID,
		Started:    deps.Started.UTC().Truncate(time.Second),
	}
	return func(c *gin.Context) {
		c.Header("Cache-Control", "no-store")
		writeJSON(c, http.StatusOK, body)
	}
}
