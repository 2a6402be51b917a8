//go:build integration

package systemd_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// TestWatchdogAcrossUpgrades: each generation pings when it takes over. Those that
// follow each other within seconds would otherwise never, and the last one be killed.
func TestWatchdogAcrossUpgrades(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
	})
	if m == nil {
		return
	}
	place(t, m.Dir, filepath.Join(m.Dir, "v1"))
	m.Must("start", unit)
	for range 2 {
		before := m.Show(unit, "WatchdogTimestampMonotonic")
		m.Must("reload", unit)
		require.NotEqual(t, before, m.Show(unit, "WatchdogTimestampMonotonic"))
	}
	m.Must("stop", unit)
}
