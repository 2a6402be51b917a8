package routes

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBodyLimit(t *testing.T) {
	srv := start(t, New(Deps{BodyLimit: 1000, Identify: true, PID: 7}))
	for _, tc := range []struct {
		name, path string
		size       int
		chunked    bool
		status     int
	}{
		{"at the limit", "/echo", 1000, false, 200},
		{"at the limit, chunked", "/echo", 1000, true, 200},
		{"over", "/echo", 1001, false, 413},
		{"over, chunked", "/echo", 1001, true, 413},
		{"upload at the limit", "/upload", 1000, true, 200},
		{"upload over", "/upload", 1001, false, 413},
		{"upload over, chunked", "/upload", 100_000, true, 413},
		{"order over, chunked", "/orders", 1001, true, 413},
		{"where nothing is", "/nothing", 1001, false, 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(strings.Repeat("x", tc.size))
			if tc.chunked {
				body = struct{ io.Reader }{body} // its length is hidden
			}
			req, err := http.NewRequest("POST", srv.URL+tc.path, body)
			require.NoError(t, err)
			resp, err := srv.Client().Do(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			var got bytes.Buffer
			_, err = got.ReadFrom(resp.Body)
			require.NoError(t, err)
			require.Equal(t, tc.status, resp.StatusCode, got.String())
			require.Equal(t, "7", resp.Header.Get("X-Pid"))
			if tc.status == 413 {
				requireError(t, answer{resp.StatusCode, resp.Header, got.String()}, 413, "body_too_large")
				require.True(t, resp.Close)
			}
		})
	}
}

// An order is bounded where nothing else is.
func TestOrderIsBoundedWithoutALimit(t *testing.T) {
	a := do(t, start(t, New(Deps{})), "POST", "/orders", strings.Repeat(" ", maxOrder+1))
	requireError(t, a, 413, "body_too_large")
}
