//go:build integration

package systemd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// A stop with a delay takes longer than the unit allows: systemd is told, and waits.
func TestSystemdWaitsForADelayedStop(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		file := filepath.Join(dir, "units", unit)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		text := strings.Replace(string(b), "TimeoutStopSec=45s", "TimeoutStopSec=1s", 1)
		require.NotEqual(t, string(b), text)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		f, err := os.OpenFile(filepath.Join(dir, "config.yml"), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString("stop-delay: 2s\n")
		require.NoError(t, err)
		require.NoError(t, f.Close())
	})
	if m == nil {
		return
	}
	place(t, m.Dir, filepath.Join(m.Dir, "v1"))
	m.Must("start", unit)
	m.Must("stop", "--no-block", unit)
	eventually(t, m, "systemd knows", func() bool { return strings.HasPrefix(m.Show(unit, "StatusText"), "withdrawing: ") })
	began := time.Now()
	r, err := load.New(load.Workload{Kind: load.Echo, Addr: server, Conns: 4, Pause: 5 * time.Millisecond, MaxRequests: 50, NewConn: true})
	require.NoError(t, err)
	r.Start(t.Context())
	eventually(t, m, "answers", func() bool { return r.Snapshot().Total().Answered == 50 })
	require.NoError(t, r.Stop().Err())
	eventually(t, m, "the end", func() bool { return m.Show(unit, "ActiveState") == "inactive" })
	t.Logf("stopped after %s", time.Since(began))
	require.Equal(t, "success", m.Show(unit, "Result"))
	require.NotContains(t, m.Log(), "timed out")
	log, err := os.ReadFile(filepath.Join(m.Dir, "app.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), `"from":"stopping","to":"stopped"`)
}
