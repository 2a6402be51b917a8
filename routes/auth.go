package routes

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// RequireToken returns a middleware that lets a request pass only with the header
// "Authorization: Bearer <token>". Anything else is answered 401 with a
// WWW-Authenticate header as in RFC 6750 section 3: the bare scheme when no bearer
// token was sent, error="invalid_token" when it was the wrong one.
//
// It panics on an empty token, which would let in whoever sends an empty one.
func RequireToken(token string) gin.HandlerFunc {
	if token == "" {
		panic("routes: RequireToken needs a token; to protect nothing, leave it out")
	}
	// Compared are digests: ConstantTimeCompare returns at once when the lengths
	// differ, and so would tell the token's length.
	want := sha256.Sum256([]byte(token))
	return func(c *gin.Context) {
		scheme, given, _ := strings.Cut(c.GetHeader("Authorization"), " ")
		given = strings.TrimLeft(given, " ")
		if !strings.EqualFold(scheme, "Bearer") || given == "" {
			c.Header("WWW-Authenticate", "Bearer")
			Fail(c, http.StatusUnauthorized, "token_missing", "this needs a bearer token in the Authorization header")
			return
		}
		got := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			c.Header("WWW-Authenticate", `Bearer error="invalid_token"`)
			Fail(c, http.StatusUnauthorized, "token_invalid", "this bearer token is not valid here")
			return
		}
		c.Next()
	}
}
