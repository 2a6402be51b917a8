package control

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// LogLevel and SetLogLevel implement Service: a logger that can write no trace.
func (f *fake) LogLevel() LogLevel { return f.level }

func (f *fake) SetLogLevel(c LevelChange) (LogLevel, error) {
	if c.Level < zerolog.DebugLevel {
		return LogLevel{}, errors.New("it can write no trace")
	}
	f.changes <- c
	f.level.Level = c.Level.String()
	return f.level, nil
}

func TestTheLevelIsAsked(t *testing.T) {
	f, _, c, a := serve(t, "unix", "")
	f.level = LogLevel{Level: "info", Configured: "info"}
	ctx := bounded(t)
	l, err := c.LogLevel(ctx)
	require.NoError(t, err)
	require.Equal(t, f.level, l)

	l, err = c.SetLogLevel(ctx, "debug", 10*time.Minute)
	require.NoError(t, err)
	require.Equal(t, "debug", l.Level)
	change := <-f.changes
	if change.By != "a process on the Unix socket" { // where the kernel does not say
		require.Equal(t, fmt.Sprintf("uid %d", os.Geteuid()), change.By)
	}
	require.Equal(t, LevelChange{Level: zerolog.DebugLevel, For: 10 * time.Minute, By: change.By}, change)
	_, err = c.SetLogLevel(ctx, "error", 0)
	require.NoError(t, err)
	require.Zero(t, (<-f.changes).For)

	_, err = c.SetLogLevel(ctx, "trace", 0)
	require.ErrorContains(t, err, "no trace")
	_, err = c.SetLogLevel(ctx, "loud", 0)
	require.ErrorContains(t, err, `log level "loud": want trace, debug`)
	for _, tc := range []struct {
		request, body string
		status        int
	}{
		{"PUT", `{"level":"debug","for":"-1s"}`, http.StatusBadRequest},
		{"PUT", `{"level":"debug","for":"soon"}`, http.StatusBadRequest},
		{"PUT", `{"level":"debug","forever":true}`, http.StatusBadRequest},
		{"PUT", `{"level":""}`, http.StatusBadRequest},
		{"PUT", `{"level":"1"}`, http.StatusBadRequest},
		{"PUT", `nothing`, http.StatusBadRequest},
		{"PUT", ``, http.StatusBadRequest},
		{"POST", `{"level":"debug"}`, http.StatusMethodNotAllowed},
		{"DELETE", ``, http.StatusMethodNotAllowed},
	} {
		status, body := raw(t, a, fmt.Sprintf("%s /log-level HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", tc.request, len(tc.body), tc.body))
		require.Equal(t, tc.status, status, "%s %s: %s", tc.request, tc.body, body)
	}
	require.Empty(t, f.changes)
}

func TestALevelIsChangedOverTCPWithTheToken(t *testing.T) {
	f, _, c, a := serve(t, "tcp", "hunter2")
	_, err := c.SetLogLevel(bounded(t), "warn", time.Minute)
	require.NoError(t, err)
	by := (<-f.changes).By
	require.Regexp(t, `^the token, from 127\.0\.0\.1:\d+$`, by, "who, and not the token")

	_, err = NewClient(a, "wrong").SetLogLevel(bounded(t), "warn", 0)
	require.ErrorContains(t, err, "bearer token")
	_, err = NewClient(a, "").LogLevel(bounded(t))
	require.NoError(t, err, "everybody may read")
	require.Empty(t, f.changes)
}
