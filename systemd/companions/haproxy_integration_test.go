//go:build integration

package companions_test

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI2_HAProxySeesNoLoss has HAProxy, which repeats nothing, between the load and the
// upgrades. WebSockets live on.
func TestI2_HAProxySeesNoLoss(t *testing.T) {
	t.Parallel()
	const upgrades = 10
	p := newPair(t, "--drain-timeout", "10s")
	p.start(blue)
	proxy := startHAProxy(t, p)
	ws := sockets(proxy.addr)
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr), ws)
	loadtest.Flowing(t, r, 50)
	for i := range upgrades {
		r.SetPhase(load.During)
		u := p.upgrade(blue)
		if i%2 == 1 {
			continue // the next one is asked for in this one's drain
		}
		p.gone(blue, u.OldPID)
		r.SetPhase(load.After)
		loadtest.Flowing(t, r, 100)
	}
	loadtest.Flowing(t, r, 100)
	tally := r.Stop()
	log := p.live[blue].LogPath()
	proxy.settle(tally, p.asked, fmt.Sprintf("%d upgrades", upgrades))
	p.stop(blue)
	served, messages := readServerLog(t, log), tally.Workloads["sockets"]
	t.Logf("%d messages on %d WebSockets; the requests came on %d connections of HAProxy; of %d that were open when a drain began %d were closed silent, %d dropped",
		messages.Sent, messages.Connects, len(served.peers), served.atDrain, served.silent, served.dropped)
	require.Len(t, served.posts, int(tally.Workloads["kept"].Sent+tally.Workloads["new"].Sent), "the server has answered each")
	for id, n := range served.posts {
		require.Equal(t, 1, n, "%s was answered once", id)
	}
	require.Zero(t, served.silent+served.dropped, "no connection was closed under HAProxy's hands")
	require.EqualValues(t, ws.Conns, messages.Connects, "no WebSocket was closed")
}

// TestHAProxySwitches: blue and green in turn by the runtime API, the new release in
// the one that rests.
func TestHAProxySwitches(t *testing.T) {
	t.Parallel()
	const switches = 5
	p := newPair(t)
	p.start(blue)
	proxy := startHAProxy(t, p)
	proxy.set(green, "drain")
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr))
	loadtest.Flowing(t, r, 50)
	for i := range switches {
		from, to := colors(i)
		p.start(to)
		proxy.set(to, "ready")
		proxy.becomes(to, "UP")
		proxy.drains(from)
		p.serves(proxy.addr, to)
		p.stop(from)
		loadtest.Flowing(t, r, 50)
	}
	proxy.settle(r.Stop(), p.asked, fmt.Sprintf("%d switches", switches))
}

// TestHAProxyRollsByHand takes each of two instances out, replaces it and puts it back.
func TestHAProxyRollsByHand(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.start(blue)
	p.start(green)
	proxy := startHAProxy(t, p)
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr))
	n := p.roll(r, func(color, other string) {
		proxy.drains(color)
		p.serves(proxy.addr, other)
		p.stop(color)
		p.start(color)
		proxy.set(color, "ready")
		proxy.becomes(color, "UP")
	})
	proxy.settle(r.Stop(), p.asked, fmt.Sprintf("%d replaced in turn", n))
}

// TestHAProxyRollsByItself replaces the instances in turn by SIGTERM and a start alone:
// HAProxy sees by its checks what goes and what comes.
func TestHAProxyRollsByItself(t *testing.T) {
	t.Parallel()
	p := newPair(t, "--stop-delay", "3s") // as haproxy.cfg says
	p.start(blue)
	p.start(green)
	proxy := startHAProxy(t, p)
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr))
	n := p.roll(r, func(color, _ string) {
		pid := p.live[color].Version().PID
		require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
		proxy.becomes(color, "DOWN")
		// By its own word, and not because nobody listens any more.
		require.Equal(t, "withdrawing", p.status(color).State)
		p.gone(color, pid)
		p.stop(color)
		p.start(color)
		proxy.becomes(color, "UP")
	})
	proxy.settle(r.Stop(), p.asked, fmt.Sprintf("%d replaced in turn by health checks", n))
}
