package routes

import (
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProbes(t *testing.T) {
	var state atomic.Pointer[error]
	set := func(err error) { state.Store(&err) }
	srv := start(t, New(Deps{Identify: true, PID: 7, Ready: func() error { return *state.Load() }}))

	for _, tc := range []struct {
		err    error
		status int
		body   string
	}{
		{errors.New("starting"), 503, `{"status":"unready","reason":"starting"}`},
		{nil, 200, `{"status":"ready"}`},
		{errors.New("draining"), 503, `{"status":"unready","reason":"draining"}`},
	} {
		set(tc.err)
		for _, path := range []string{"/readyz", "/health", "/livez"} {
			status, body := tc.status, tc.body
			if path == "/livez" {
				status, body = 200, `{"status":"ok"}`
			}
			for _, method := range []string{"GET", "HEAD"} {
				a := do(t, srv, method, path, "")
				require.Equal(t, status, a.status)
				require.Equal(t, "no-store", a.header.Get("Cache-Control"))
				require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
				require.Equal(t, strconv.Itoa(len(body)), a.header.Get("Content-Length"))
				require.Equal(t, "7", a.header.Get("X-Pid"))
				if method == "HEAD" {
					body = ""
				}
				require.Equal(t, body, a.body)
			}
		}
	}
	require.Equal(t, 200, do(t, start(t, New(Deps{})), "GET", "/readyz", "").status, "no function: always ready")
}

func TestVersion(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("CET", 3600))
	srv := start(t, New(Deps{Build: "v1", Generation: 2, PID: 123, Started: started}))
	a := do(t, srv, "GET", "/version", "")
	require.Equal(t, 200, a.status)
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Equal(t, `{"build":"v1","go":"`+runtime.Version()+`","generation":2,"pid":123,"started":"2026-01-02T02:04:05Z"}`, a.body)

	head := do(t, srv, "HEAD", "/version", "")
	require.Equal(t, a.header.Get("Content-Length"), head.header.Get("Content-Length"))

	var v versionBody
	require.NoError(t, json.Unmarshal([]byte(do(t, start(t, New(Deps{})), "GET", "/version", "").body), &v))
	require.NotZero(t, v.PID)
	require.WithinDuration(t, time.Now(), v.Started, time.Minute)
}
