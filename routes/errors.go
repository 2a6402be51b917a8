package routes

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
)

// StatusClientGone is logged, and answered if anybody still listens, when the
// client went away before its answer. No RFC has it; nginx made it common.
const StatusClientGone = 499

// Field says what is wrong with one field of a request.
type Field struct {
	Field   string `json:"field"`   // the name the client used: JSON key or query parameter
	Message string `json:"message"` // what it must be
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	RequestID string  `json:"request_id"`
	Fields    []Field `json:"fields,omitempty"`
}

// Fail ends the request with an error in the form that all of this package's
// errors have:
//
//	{"error":{"code":"…","message":"…","request_id":"…","fields":[{"field":"…","message":"…"}]}}
//
// code is for programs (lower case, underscores, never changed once published),
// message for people. fields is left out when empty. Once part of an answer has
// been written, Fail only stops the handlers that would follow.
func Fail(c *gin.Context, status int, code, message string, fields ...Field) {
	c.Abort()
	if c.Writer.Written() {
		return
	}
	h := c.Writer.Header()
	// Whatever the handler had prepared to say about its own body is not true of
	// this one.
	for _, name := range []string{"Content-Encoding", "Content-Disposition", "Etag", "Last-Modified"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store") // a 404 may be cached unless told otherwise, RFC 9111 section 4.2.2
	writeJSON(c, status, errorBody{errorDetail{code, message, RequestID(c), fields}})
}

// writeJSON answers v. The length is set by hand since net/http does not set it
// on the answer to HEAD.
func writeJSON(c *gin.Context, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types, which all marshal
	}
	write(c, status, "application/json; charset=utf-8", body)
}

func write(c *gin.Context, status int, contentType string, body []byte) {
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Data(status, contentType, body)
}

func noRoute(c *gin.Context) {
	Fail(c, http.StatusNotFound, "not_found", "there is nothing at this path")
}

// noMethod finds the Allow header already set by Gin.
func noMethod(c *gin.Context) {
	Fail(c, http.StatusMethodNotAllowed, "method_not_allowed", "this path does not take this method; the Allow header lists those it takes")
}
