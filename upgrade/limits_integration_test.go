//go:build integration && linux

package upgrade_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestI3_TooFewDescriptors upgrades to a generation that may not open enough for all
// connections. It takes what it can, leaving room for new ones; the rest stays with
// the old generation, which answers once more and tells them to close.
func TestI3_TooFewDescriptors(t *testing.T) {
	const idle, limit = 1000, 200
	m := &mortal{t: t}
	m.prepare()
	good, path := m.cmd.Binary, filepath.Join(m.dir, "service")
	install(t, good, path)
	m.cmd.Binary = path
	m.start(16, idle)
	require.NoError(t, m.runner.Stop().Err())

	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n", limit, good)
	installBytes(t, []byte(script), path, 0o755)
	u := up(t, m.Process)
	more := newFlock(t, m.Addr("http").Address, 20) // it still accepts
	h := m.idle.ask()
	for i := range m.idle.conns { // what was told to close is not made anew: there is no room
		if m.idle.over[i] {
			_ = m.idle.conns[i].Close()
		}
	}
	gone(t, m.Process, u.OldPID)
	e := events(t, m.LogPath(), "drained")[0]
	t.Logf("limit %d: of %d connections moved %d, refused %d, closed %d, silent %d, dropped %d; clients: %+v",
		limit, e.Connections, e.Moved, e.Refused, e.Closed, e.Retired, e.Dropped, h)
	require.Nil(t, e.Balances)
	require.Zero(t, e.Dropped)
	require.Equal(t, idle, h.answered, "never lost")
	require.Zero(t, h.lost+h.late)
	require.Equal(t, idle, e.Moved+e.Refused)
	// Who asked before the drain had begun was not told, and is closed in silence.
	require.Equal(t, e.Refused, h.told+e.Retired)
	require.Greater(t, e.Moved, limit/2)
	require.Less(t, e.Moved, limit)
	require.Equal(t, herd{answered: 20}, more.ask())
	require.Empty(t, events(t, m.LogPath(), "http server"), "it does not run out of descriptors")
	stop(t, m.Process)
}
