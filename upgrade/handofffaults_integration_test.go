//go:build integration && linux

package upgrade_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI4_TheNewGenerationDies kills it at each point of the handoff. What it had
// acknowledged is lost with it, as in any crash, and nothing else: the old
// generation serves the rest, accepts, and can be upgraded again.
func TestI4_TheNewGenerationDies(t *testing.T) {
	const busy, idle = 64, 300
	for _, tc := range []struct {
		name, fault string
		reason      string
		least, most int // connections that may be lost
		args        []string
	}{
		{name: "in the warm-up", fault: "kill warm-up", reason: "signal: killed"},
		{name: "at the first connection", fault: "kill adopted 1", reason: "signal: killed", least: 1, most: busy + idle},
		{name: "in the middle", fault: "kill adopted 150", reason: "signal: killed", least: 150, most: busy + idle},
		{name: "with all connections", fault: fmt.Sprint("kill adopted ", idle+busy), reason: "signal: killed", least: idle + busy, most: busy + idle},
		{
			name: "stalled", fault: "stop adopted 100", reason: "within 2s", least: 100, most: busy + idle,
			args: []string{"--handoff-timeout", "2s", "--upgrade-timeout", "20s"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := startMortal(t, busy, idle, tc.args...)
			m.hold(0)
			m.set("fault", tc.fault)
			pid := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
			said, err := holdfastWait(t, build(t, "."), m.cmd.PIDFile, pid)
			require.Error(t, err)
			require.Contains(t, said, tc.reason)
			s, err := upgrade.ReadStatus(m.cmd.PIDFile)
			require.NoError(t, err)
			require.Equal(t, "serving", s.State)
			require.Equal(t, pid, s.PID, "the old generation goes on")
			require.Eventually(t, func() bool { n, _ := children(t, pid); return n == 0 }, 10*time.Second, time.Millisecond)

			// Each connection is used, so that its client sees what has become of it.
			herd := m.idle.ask()
			loadtest.Flowing(t, m.runner, 8*busy)
			tally := m.runner.Stop()
			c := tally.Total()
			lost := m.lost()
			t.Logf("lost with it: %d; clients saw: idle %+v, busy failed %d %v, reconnects %d; said: %s",
				lost, herd, c.Failed(), c.Failures, c.Reconnects, said)
			require.Equal(t, idle, herd.answered+herd.lost)
			require.GreaterOrEqual(t, lost, tc.least)
			require.LessOrEqual(t, lost, tc.most)
			require.Equal(t, lost, seen(c, herd), "lost is what it had acknowledged, and only that")

			// Closed here means closed: nobody else holds these connections.
			m.release()
			gone(t, m.Process, m.parts())
			m.good()
		})
	}
}

// parts has the idle clients end their connections, which the serving process then
// must do, too. It returns a process that is upgraded away, by a good release.
func (m *mortal) parts() (old int) {
	m.t.Helper()
	m.idle.renew()
	h := m.idle.part()
	require.Equal(m.t, herd{answered: len(m.idle.conns), told: len(m.idle.conns)}, h, "answered, and closed at once")
	m.set("fault", "")
	m.idle.renew()
	require.Equal(m.t, herd{answered: len(m.idle.conns)}, m.idle.ask())
	return up(m.t, m.Process).OldPID
}

// good upgrades once more, under load, and loses nothing.
func (m *mortal) good() {
	m.t.Helper()
	busy := 16
	r := loadtest.Start(m.t, m.workload(busy))
	loadtest.Flowing(m.t, r, int64(busy))
	u := up(m.t, m.Process)
	gone(m.t, m.Process, u.OldPID)
	loadtest.Flowing(m.t, r, int64(busy))
	h := m.idle.ask()
	require.Equal(m.t, herd{answered: len(m.idle.conns)}, h)
	tally := r.Stop()
	stop(m.t, m.Process)
	require.NoError(m.t, tally.Err())
	require.Zero(m.t, tally.Total().Reconnects+tally.Total().ToldToClose)
}

// TestI4_TheNewGenerationDiesBeforeItConfirms: it is ready, so tableflip permits no
// further upgrade, but has not confirmed: the old generation goes on all the same,
// and says what to do.
func TestI4_TheNewGenerationDiesBeforeItConfirms(t *testing.T) {
	const busy, idle = 16, 100
	manager, path := serviceManager(t)
	t.Setenv("NOTIFY_SOCKET", path)
	m := startMortal(t, busy, idle)
	old := m.Version().PID
	// The new generation has become ready, and waits to be heard.
	manager.onReady(func(pid int) {
		if pid != old {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	pid := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
	require.Equal(t, old, pid)
	logged(t, m.Process, "upgrade failed: this generation goes on")
	failed := events(t, m.LogPath(), "upgrade failed: this generation goes on")
	require.Contains(t, failed[0].Reason, "died after it was ready")

	h := m.idle.ask()
	loadtest.Flowing(t, m.runner, 8*busy)
	c := m.runner.Stop().Total()
	t.Logf("lost with it: %d; clients saw: idle %+v, busy failed %d %v, reconnects %d", m.lost(), h, c.Failed(), c.Failures, c.Reconnects)
	require.GreaterOrEqual(t, m.lost(), idle)
	require.Equal(t, m.lost(), seen(c, h))
	serving, err := upgrade.ReadPIDFile(m.cmd.PIDFile)
	require.NoError(t, err)
	require.Equal(t, old, serving)

	signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
	said, err := holdfastWait(t, build(t, "."), m.cmd.PIDFile, old)
	require.Error(t, err)
	require.Contains(t, said, "restart the service")
	m.idle.renew()
	require.Equal(t, herd{answered: idle}, m.idle.ask())
	stop(t, m.Process)
}

// TestI2_TheNewGenerationDiesAfterTheCommit: the old one drains. It answers what it
// still has, and ends.
func TestI2_TheNewGenerationDiesAfterTheCommit(t *testing.T) {
	const slow = 50
	m := startMortal(t, 1, 0)
	require.NoError(t, m.runner.Stop().Err())
	f := newFlock(t, m.Addr("http").Address, slow)
	end := f.begin("GET /slow?ms=1500 HTTP/1.1\r\nHost: x\r\n\r\n", "slow")
	request(t, m.Process, "/slow?ms=0")
	logged(t, m.Process, `"path":"/slow"`)
	m.set("fault", "kill serving")
	pid := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
	h := end()
	t.Logf("in flight: %+v", h)
	require.Equal(t, herd{answered: slow}, h)
	gone(t, m.Process, pid)
	drained := events(t, m.LogPath(), "drained")
	require.Len(t, drained, 1)
	require.Nil(t, drained[0].Balances)
	require.Empty(t, events(t, m.LogPath(), "not everything has ended"))
}

// TestI3_TheOldGenerationDies is killed while it drains. What has moved is the new
// one's, and served; that one can be upgraded.
func TestI3_TheOldGenerationDies(t *testing.T) {
	const busy, idle = 32, 300
	m := startMortal(t, 8, idle)
	require.NoError(t, m.runner.Stop().Err())
	u := up(t, m.Process) // the first generation is the test's child, and must end well
	gone(t, m.Process, u.OldPID)
	slow := newFlock(t, m.Addr("http").Address, busy)
	end := slow.begin("GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n", "slow")
	require.Eventually(t, func() bool { return connections(t, u.PID) == busy+idle }, 10*time.Second, time.Millisecond)
	u = up(t, m.Process)
	require.NoError(t, syscall.Kill(u.OldPID, syscall.SIGKILL))
	gone(t, m.Process, u.OldPID)
	require.Equal(t, herd{lost: busy}, end(), "what it was carrying out is lost")
	require.Equal(t, herd{answered: idle}, m.idle.ask(), "what had moved is not")
	logged(t, m.Process, "previous generation has exited")
	m.good()
}

// TestI4_TheNewGenerationGivesBack gets SIGTERM when it has taken connections and not
// committed. All of them go back, and nobody notices.
func TestI4_TheNewGenerationGivesBack(t *testing.T) {
	const busy, idle = 64, 300
	for _, n := range []int{1, 200, busy + idle} {
		t.Run(fmt.Sprint("at connection ", n), func(t *testing.T) {
			m := startMortal(t, busy, idle)
			m.hold(300)
			m.set("fault", fmt.Sprint("term adopted ", n))
			pid := signal(t, m.cmd.PIDFile, syscall.SIGUSR2)
			said, err := holdfastWait(t, build(t, "."), m.cmd.PIDFile, pid)
			require.Error(t, err)
			require.Contains(t, said, "it was told to stop")
			require.Equal(t, herd{answered: idle}, m.idle.ask())
			loadtest.Flowing(t, m.runner, 8*busy)
			c := m.runner.Stop().Total()
			require.Zero(t, c.Failed()+c.Reconnects+c.ToldToClose, "%+v", c)
			back := events(t, m.LogPath(), "taken back from the new generation")
			given := events(t, m.LogPath(), "connections given back to the previous generation")
			require.Len(t, back, 1)
			require.Len(t, given, 1)
			t.Logf("given back %d, taken back %d; busy sent %d, failed 0, told to close 0, reconnects 0; said: %s",
				given[0].Moved, back[0].Connections, c.Sent, said)
			require.Equal(t, back[0].Connections, given[0].Moved)
			require.GreaterOrEqual(t, back[0].Connections, n)
			require.Zero(t, m.lost())
			m.release()
			m.set("fault", "")
			m.good()
		})
	}
}
