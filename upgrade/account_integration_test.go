//go:build integration && linux

package upgrade_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// accounted waits for the account of the upgrade that made the serving generation.
func accounted(t *testing.T, p *load.Process, pidFile string, u load.Upgraded) handoff.Account {
	t.Helper()
	gone(t, p, u.OldPID)
	var s upgrade.Status
	require.Eventually(t, func() bool {
		var err error
		s, err = upgrade.ReadStatus(pidFile)
		return err == nil && s.Upgrade.Connections != nil
	}, 10*time.Second, time.Millisecond, "the account comes with the old generation's last word")
	require.Equal(t, u.PID, s.PID)
	a := *s.Upgrade.Connections
	require.True(t, a.Balances(), "%+v", a)
	logged := events(t, p.LogPath(), "drained")
	e := logged[len(logged)-1]
	require.Equal(t, u.OldPID, e.PID)
	require.Nil(t, e.Balances)
	require.Equal(t,
		handoff.Account{Open: e.Connections, Hijacked: e.Hijacked, Moved: e.Moved, Closed: e.Closed, Retired: e.Retired, Dropped: e.Dropped, Refused: e.Refused},
		handoff.Account{Open: a.Open, Hijacked: a.Hijacked, Moved: a.Moved, Closed: a.Closed, Retired: a.Retired, Dropped: a.Dropped, Refused: a.Refused},
		"the state file says what the log says")
	return a
}

// TestTheAccountIsWhatTheClientsSee upgrades under mixed loads and adds up.
func TestTheAccountIsWhatTheClientsSee(t *testing.T) {
	const echo, slow, sockets, idle = 16, 8, 8, 50
	for _, tc := range []struct {
		name     string
		upgrades int
		tls      bool
	}{
		{"plaintext", 10, false},
		{"tls", 3, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := load.Serve(build(t, "."), dir, "http=127.0.0.1:0")
			cmd.Args = append(cmd.Args, "--drain-timeout", "2s")
			if tc.tls {
				cert, key, client := certificate(t, dir)
				cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
				cmd.TLS = client
			}
			p := start(t, cmd)
			r := loadtest.Start(t,
				load.Workload{Kind: load.Echo, Conns: echo, Pause: 20 * time.Millisecond, Addr: p.Addr("http")},
				load.Workload{Kind: load.Slow, Conns: slow, Duration: 100 * time.Millisecond, Addr: p.Addr("http")},
				load.Workload{Kind: load.WebSocket, Conns: sockets, Pause: 20 * time.Millisecond, Addr: p.Addr("http")})
			loadtest.Flowing(t, r, echo)
			var quiet *flock
			if !tc.tls {
				quiet = newFlock(t, p.Addr("http").Address, idle)
			}
			var sum handoff.Account
			for range tc.upgrades {
				a := accounted(t, p, cmd.PIDFile, up(t, p))
				sum.Add(a)
				require.Zero(t, a.Dropped+a.Cut+a.Refused, "%+v", a)
				loadtest.Flowing(t, r, echo)
			}
			tally := r.Stop()
			require.NoError(t, tally.Err())
			c := tally.Total()
			t.Logf("%d upgrades: %+v; clients: sent %d, failed 0, told to close %d, reconnects %d", tc.upgrades, sum, c.Sent, c.ToldToClose, c.Reconnects)
			require.Zero(t, c.Reconnects)
			if tc.tls {
				require.Zero(t, sum.Moved)
				require.EqualValues(t, sum.Closed, c.ToldToClose, "each connection ended with a last answer")
				stop(t, p)
				return
			}
			require.Equal(t, tc.upgrades*sockets, sum.Hijacked)
			plain := tc.upgrades * (echo + slow + idle)
			require.Equal(t, plain+tc.upgrades*sockets, sum.Open)
			// The WebSockets of the demonstration are told to leave; all else moves.
			require.GreaterOrEqual(t, sum.Moved, plain)
			require.EqualValues(t, sum.Closed, c.ToldToClose)
			require.Zero(t, sum.Retired)
			require.Equal(t, herd{answered: idle}, quiet.ask())
			stop(t, p)
		})
	}
}

// TestI9_DescriptorsOfConnections upgrades fifty times with two hundred connections:
// the serving process has each of them once, and no other process is left.
func TestI9_DescriptorsOfConnections(t *testing.T) {
	const upgrades, early, conns, idle = 50, 5, 40, 160
	m := startMortal(t, conns, idle)
	group, err := syscall.Getpgid(m.Version().PID)
	require.NoError(t, err)
	var first footprint
	for i := 1; i <= upgrades; i++ {
		u := up(t, m.Process)
		gone(t, m.Process, u.OldPID)
		loadtest.Flowing(t, m.runner, conns)
		if i == early {
			first = measure(t, u.PID)
		}
	}
	pid := m.Version().PID
	// A connection that up made to look at the version may still be on its way out.
	require.Eventually(t, func() bool { return connections(t, pid) == conns+idle }, 10*time.Second, time.Millisecond)
	last := measure(t, pid)
	t.Logf("after %d upgrades: %d descriptors; after %d: %d, of which %d connections", early, first.files, upgrades, last.files, conns+idle)
	require.InDelta(t, first.files, last.files, 3)
	require.Equal(t, []int{pid}, members(t, group), "processes of the service")
	require.Equal(t, herd{answered: idle}, m.idle.ask())
	tally := m.runner.Stop()
	require.NoError(t, tally.Err())
	c := tally.Total()
	t.Logf("sent %d, failed 0, told to close %d, reconnects %d, connects %d", c.Sent, c.ToldToClose, c.Reconnects, c.Connects)
	require.Zero(t, c.ToldToClose+c.Reconnects)
	require.EqualValues(t, conns, c.Connects)
	stop(t, m.Process)
}
