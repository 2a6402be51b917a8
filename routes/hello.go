package routes

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// hello answers the two bytes "ok".
func hello(c *gin.Context) {
	write(c, http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
}
