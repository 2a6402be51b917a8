package routes

import (
	"hash/crc32"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
)

// uploadBuffer is all of a body that is held at one time.
const uploadBuffer = 32 << 10

type uploadBody struct {
	Bytes int64  `json:"bytes"`
	CRC32 uint32 `json:"crc32"` // IEEE polynomial
}

// upload counts the body and sums it up while it streams by, so that a client can
// tell whether each byte of it arrived, once.
func upload(c *gin.Context) {
	sum := crc32.NewIEEE()
	n, err := io.CopyBuffer(sum, c.Request.Body, make([]byte, uploadBuffer))
	if err != nil {
		failBody(c, err)
		return
	}
	writeJSON(c, http.StatusOK, uploadBody{n, sum.Sum32()})
}
