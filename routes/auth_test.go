package routes

import (
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

const goodOrder = `{"sku":"KELP-1","quantity":2,"email":"a@example.org"}`

func TestToken(t *testing.T) {
	r := New(Deps{Token: "s3cret", Identify: true, PID: 7})
	r.GET("/admin", RequireToken("other"), func(c *gin.Context) { c.Status(204) })
	srv := start(t, r)
	const missing, wrong = "Bearer", `Bearer error="invalid_token"`
	for _, tc := range []struct {
		name, header string
		status       int
		code, answer string
	}{
		{"missing", "", 401, "token_missing", missing},
		{"another scheme", "Basic czNjcmV0", 401, "token_missing", missing},
		{"no token", "Bearer ", 401, "token_missing", missing},
		{"wrong", "Bearer s3creT", 401, "token_invalid", wrong},
		{"prefix", "Bearer s3cre", 401, "token_invalid", wrong},
		{"longer", "Bearer s3cret1", 401, "token_invalid", wrong},
		{"right", "Bearer s3cret", 201, "", ""},
		{"schemes have no case", "bearer s3cret", 201, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var header []string
			if tc.header != "" {
				header = []string{"Authorization", tc.header}
			}
			a := do(t, srv, "POST", "/orders", goodOrder, header...)
			if tc.code != "" {
				requireError(t, a, tc.status, tc.code)
			}
			require.Equal(t, tc.status, a.status)
			require.Equal(t, tc.answer, a.header.Get("WWW-Authenticate"))
			require.Equal(t, "7", a.header.Get("X-Pid"))
		})
	}
	require.Equal(t, 200, do(t, srv, "GET", "/", "").status, "only orders are protected")
	require.Equal(t, 401, do(t, srv, "GET", "/admin", "", "Authorization", "Bearer s3cret").status)
	require.Equal(t, 204, do(t, srv, "GET", "/admin", "", "Authorization", "Bearer other").status)
	require.Panics(t, func() { RequireToken("") })
}

func TestNothingIsProtectedWithoutAToken(t *testing.T) {
	require.Equal(t, 201, do(t, start(t, New(Deps{})), "POST", "/orders", goodOrder).status)
}
