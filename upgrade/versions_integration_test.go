//go:build integration && linux

package upgrade_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

const (
	stayOld = "connections do not move: this generation drains them"
	stayNew = "connections do not move: the previous generation drains them"
)

// TestI10_VersionsThatDiffer upgrades back and forth between generations that do not
// share a protocol in which connections move. They are drained instead, and both
// sides say so, and why, once.
func TestI10_VersionsThatDiffer(t *testing.T) {
	const upgrades, busy = 10, 32
	for _, tc := range []struct{ name, one, other string }{
		{"without the handoff, and with it", "1", "2 1"},
		{"nothing in common", "2 1", "8 7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &mortal{t: t}
			m.prepare()
			m.set("versions", tc.one)
			m.start(busy, 0)
			for i := range upgrades {
				m.set("versions", []string{tc.other, tc.one}[i%2])
				u := up(t, m.Process)
				gone(t, m.Process, u.OldPID)
				loadtest.Flowing(t, m.runner, busy)
				require.Len(t, events(t, m.LogPath(), stayOld), i+1)
				require.Len(t, events(t, m.LogPath(), stayNew), i+1)
			}
			tally := m.runner.Stop()
			stop(t, m.Process)
			require.NoError(t, tally.Err())
			c := tally.Total()
			said := events(t, m.LogPath(), stayOld)
			t.Logf("%d upgrades: sent %d, failed 0, reconnects %d, told to close %d, moves seen %d; said: %q, %q",
				upgrades, c.Sent, c.Reconnects, c.ToldToClose, c.Moved, said[0].Reason, said[1].Reason)
			require.Zero(t, c.Reconnects)
			require.Positive(t, c.ToldToClose, "the upgrades were felt")
			require.Zero(t, c.Moved)
			for _, e := range append(said, events(t, m.LogPath(), stayNew)...) {
				require.Contains(t, e.Reason, "versions [")
			}
			for _, e := range events(t, m.LogPath(), "drained") {
				require.Nil(t, e.Balances)
				require.Zero(t, e.Moved)
			}
		})
	}
}

// The new generation is a service that knows nothing of the link.
func TestI10_ANewGenerationWithoutALink(t *testing.T) {
	m := &mortal{t: t}
	m.prepare("--addr", "127.0.0.1:0") // the new one, too
	path := filepath.Join(m.dir, "service")
	install(t, m.cmd.Binary, path)
	m.cmd.Binary = path
	m.start(1, 20)
	require.NoError(t, m.runner.Stop().Err())
	install(t, build(t, "./testdata/peers/tableflip"), path)
	old := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
	logged(t, m.Process, stayOld)
	require.Equal(t, herd{answered: 20, told: 20}, m.idle.ask())
	gone(t, m.Process, old)
	m.idle.renew()
	require.Equal(t, herd{answered: 20}, m.idle.ask(), "the new one serves")
	serving, err := upgrade.ReadPIDFile(m.cmd.PIDFile)
	require.NoError(t, err)
	require.NotEqual(t, old, serving)
	said := events(t, m.LogPath(), stayOld)
	require.Len(t, said, 1)
	require.Contains(t, said[0].Reason, "does not use the link")
	stop(t, m.Process)
}
