package upgrade

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade/control"
)

// said takes the lines that a change of the level has left.
func said(t *testing.T, b *bytes.Buffer) (all []map[string]any) {
	t.Helper()
	for dec := json.NewDecoder(b); dec.More(); {
		var line map[string]any
		require.NoError(t, dec.Decode(&line))
		all = append(all, line)
	}
	return all
}

func TestLogLevel(t *testing.T) {
	was := zerolog.GlobalLevel()
	defer zerolog.SetGlobalLevel(was)
	zerolog.SetGlobalLevel(zerolog.InfoLevel)
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := zerolog.New(&out)
		child := log.With().Str("request_id", "a").Logger() // made before
		l := newLogLevel(&log)
		defer l.close()
		require.Equal(t, control.LogLevel{Level: "info", Configured: "info"}, l.get())

		now, err := l.set(control.LevelChange{Level: zerolog.DebugLevel, For: time.Minute, By: "uid 0"})
		require.NoError(t, err)
		require.Equal(t, "debug", now.Level)
		require.Equal(t, time.Now().Add(time.Minute), *now.Until)
		require.Equal(t, []map[string]any{{"level": "info", "from": "info", "to": "debug", "by": "uid 0", "for_ms": 60000.0, "message": "log level changed"}}, said(t, &out))
		child.Debug().Msg("x")
		require.Len(t, said(t, &out), 1, "a logger that was there before")

		// Another change takes the place of the first one and its end.
		time.Sleep(30 * time.Second)
		_, err = l.set(control.LevelChange{Level: zerolog.Disabled, For: time.Minute, By: "uid 0"})
		require.NoError(t, err)
		require.Equal(t, "info", said(t, &out)[0]["level"], "said while it could be")
		child.Error().Msg("x")
		time.Sleep(59 * time.Second)
		require.Empty(t, said(t, &out), "and nothing more")
		require.Equal(t, "disabled", l.get().Level)
		time.Sleep(2 * time.Second)
		require.Equal(t, control.LogLevel{Level: "info", Configured: "info"}, l.get())
		require.Equal(t, "its time is over", said(t, &out)[0]["by"])

		_, err = l.set(control.LevelChange{Level: zerolog.ErrorLevel, By: "uid 0"})
		require.NoError(t, err)
		time.Sleep(time.Hour)
		require.Equal(t, control.LogLevel{Level: "error", Configured: "info"}, l.get(), "without an end")
		_, err = l.set(control.LevelChange{Level: zerolog.Disabled, By: "uid 0"})
		require.NoError(t, err)
		require.Equal(t, "error", said(t, &out)[1]["level"])

		l.close()
		_, err = l.set(control.LevelChange{Level: zerolog.DebugLevel})
		require.ErrorContains(t, err, "the process ends")
	})
}

func TestALevelThatTheLoggerCannotWrite(t *testing.T) {
	log := zerolog.New(&bytes.Buffer{}).Level(zerolog.WarnLevel)
	l := newLogLevel(&log)
	require.Equal(t, "warn", l.get().Level)
	_, err := l.set(control.LevelChange{Level: zerolog.InfoLevel})
	require.EqualError(t, err, "the service's own logger is made for warn and above: it can write no info")
}
