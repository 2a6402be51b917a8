package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMetricsAreForReaders(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		_, _, _, a := serve(t, network, "")
		status, body := raw(t, a, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "up 1\n", body)
		status, _ = raw(t, a, "GET /metrics HTTP/1.0\r\nHost: evil.example\r\n\r\n")
		require.Equal(t, http.StatusForbidden, status)
		status, _ = raw(t, a, "GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")
		require.Equal(t, map[string]int{"unix": http.StatusOK, "tcp": http.StatusForbidden}[network], status)
	}
}

func TestProfiles(t *testing.T) {
	_, _, _, a := serve(t, "unix", "")
	get := func(path string) (int, string) {
		return raw(t, a, fmt.Sprintf("GET /debug/pprof/%s HTTP/1.0\r\n\r\n", path))
	}
	status, body := get("")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "goroutine\nheap\n")
	for _, path := range []string{"heap?gc=1", "profile?seconds=0.05", "trace?seconds=0.05", "goroutine"} {
		status, body = get(path)
		require.Equal(t, http.StatusOK, status, path)
		require.NotEmpty(t, body, path)
	}
	_, body = get("goroutine?debug=2")
	require.Contains(t, body, "TestProfiles")
	status, _ = get("nothing")
	require.Equal(t, http.StatusNotFound, status)
	for _, seconds := range []string{"0", "-1", "x", "NaN", "1e9"} {
		status, _ = get("profile?seconds=" + seconds)
		require.Equal(t, http.StatusBadRequest, status, seconds)
	}
	status, _ = raw(t, a, "POST /debug/pprof/heap HTTP/1.0\r\n\r\n")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

// TestProfilesNeedTheToken on TCP, where every user of the machine may come.
func TestProfilesNeedTheToken(t *testing.T) {
	const ask = "GET /debug/pprof/%s HTTP/1.0\r\nHost: 127.0.0.1\r\n%s\r\n"
	_, _, _, none := serve(t, "tcp", "")
	_, _, _, token := serve(t, "tcp", "secret")
	for _, path := range []string{"", "heap", "profile?seconds=0.01"} {
		status, _ := raw(t, none, fmt.Sprintf(ask, path, ""))
		require.Equal(t, http.StatusForbidden, status)
		status, _ = raw(t, token, fmt.Sprintf(ask, path, "Authorization: Bearer wrong\r\n"))
		require.Equal(t, http.StatusUnauthorized, status)
		status, _ = raw(t, token, fmt.Sprintf(ask, path, "Authorization: Bearer secret\r\n"))
		require.Equal(t, http.StatusOK, status)
	}
}

// TestNoProfileElsewhere: the default mux, which a service may show to the world, has
// nothing of it.
func TestNoProfileElsewhere(t *testing.T) {
	_, pattern := http.DefaultServeMux.Handler(httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil))
	require.Empty(t, pattern)
}
