//go:build integration

package companions_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI2_NginxSeesNoLoss has nginx, which keeps its connections to the server and
// repeats no POST, between the load and the upgrades. What the clients, nginx and the
// server have counted must be the same, to the last request. WebSockets live on.
func TestI2_NginxSeesNoLoss(t *testing.T) {
	t.Parallel()
	const conns, wrkConns = 32, 64
	wrkPath := loadtest.Tool(t, "wrk")
	for _, tc := range []struct {
		name     string
		unix     bool
		upgrades int
	}{
		{"tcp", false, 20},
		{"unix socket", true, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, "--drain-timeout", "10s")
			if tc.unix {
				p.addr[blue] = "unix:" + filepath.Join(shortDir(t), "s.sock") // as nginx writes it, too
			}
			p.start(blue)
			proxy := startNginx(t, p.addr[blue], p.addr[green], blue)
			w := startWrk(t, wrkPath, "http://"+proxy.addr.Address+"/echo", wrkConns)
			await(t, func() bool {
				info, err := os.Stat(proxy.path(accessLog))
				return err == nil && info.Size() > 0
			}, "wrk does not send")
			posts := kept(proxy.addr)
			posts.Conns, posts.Pause = conns, 100*time.Millisecond
			ws := sockets(proxy.addr)
			r := loadtest.Start(t, posts, ws)
			loadtest.Flowing(t, r, conns)

			for i := range tc.upgrades {
				r.SetPhase(load.During)
				u := p.upgrade(blue)
				require.Equal(t, i+2, u.Generation)
				if i%2 == 1 {
					continue // the next one is asked for in this one's drain
				}
				p.gone(blue, u.OldPID)
				r.SetPhase(load.After)
				loadtest.Flowing(t, r, 10*conns)
			}
			loadtest.Flowing(t, r, conns)
			tally := r.Stop()
			counted := w.stop()
			proxy.stop()
			log := p.live[blue].LogPath()
			p.stop(blue)

			c, messages := tally.Workloads["kept"], tally.Workloads["sockets"]
			served, seen := readServerLog(t, log), proxy.requests()
			t.Logf("%d upgrades: nginx logged %d good requests, %d others; wrk sent %d, the load client %d, and %d messages on %d WebSockets; "+
				"of %d connections that were open when a drain began %d were closed silent, %d dropped",
				tc.upgrades, len(seen.posts), len(seen.bad), counted.Requests, c.Sent, messages.Sent, messages.Connects,
				served.atDrain, served.silent, served.dropped)
			if !tc.unix {
				t.Logf("the requests came on %d connections of nginx", len(served.peers))
			}
			require.Empty(t, proxy.troubles())
			require.Empty(t, seen.bad, "nginx has had an answer of 200 to everything")
			require.NoError(t, tally.Err())
			require.Equal(t, wrkCounts{Requests: counted.Requests}, counted, "wrk met no error")
			require.Positive(t, counted.Requests)
			require.Equal(t, c.Sent+counted.Requests, int64(len(seen.posts)), "nginx has logged what the clients have sent")
			require.Empty(t, differences(seen.posts, served.posts), "the server has answered what nginx has asked, once")
			require.Len(t, seen.connections, conns+wrkConns, "nginx has kept its clients' connections")
			require.Greater(t, len(c.Generations), tc.upgrades/2, "the generations have answered")
			require.Zero(t, served.silent+served.dropped, "no connection was closed under nginx's hands")
			require.EqualValues(t, ws.Conns, messages.Connects, "no WebSocket was closed")
			require.Equal(t, ws.Conns, seen.sockets)
		})
	}
}

// differences lists the first ids that are not as often in one log as in the other.
func differences(proxy, server map[string]int) (ids []string) {
	const shown = 10
	all := maps.Clone(proxy)
	maps.Copy(all, server)
	for id := range all {
		if proxy[id] != server[id] && len(ids) < shown {
			ids = append(ids, fmt.Sprintf("%s: proxy %d, server %d", id, proxy[id], server[id]))
		}
	}
	return ids
}

// The load of a switch by nginx -s reload has new connections only: nginx 1.22 closes
// idle ones of its clients at a reload, whatever has just arrived there. What they lose
// no server behind nginx can help. The switch by a file has both.

// TestNginxSwitchesByReload: blue and green in turn, the new release in the one that
// rests.
func TestNginxSwitchesByReload(t *testing.T) {
	t.Parallel()
	const switches = 5
	p := newPair(t)
	p.start(blue)
	proxy := startNginx(t, p.addr[blue], p.addr[green], blue)
	r := loadtest.Start(t, fresh(proxy.addr))
	loadtest.Flowing(t, r, 50)
	for i := range switches {
		from, to := colors(i)
		p.start(to)
		proxy.live(to)
		p.serves(proxy.addr, to)
		p.quiet(from)
		p.stop(from)
		loadtest.Flowing(t, r, 50)
	}
	proxy.settle(r.Stop(), fmt.Sprintf("%d switches by reload", switches))
}

// TestNginxSwitchesByFile does the same without a reload.
func TestNginxSwitchesByFile(t *testing.T) {
	t.Parallel()
	const switches = 5
	p := newPair(t)
	p.start(blue)
	proxy := startNginx(t, p.addr[blue], p.addr[green], "both")
	proxy.takeOut(green)
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr))
	loadtest.Flowing(t, r, 50)
	for i := range switches {
		from, to := colors(i)
		p.start(to)
		proxy.takeOut(from)
		proxy.putBack(to)
		p.serves(proxy.addr, to)
		p.quiet(from)
		p.stop(from)
		loadtest.Flowing(t, r, 50)
	}
	proxy.settle(r.Stop(), fmt.Sprintf("%d switches by file", switches))
}

// TestNginxRollsByReload takes each of two instances out, replaces it and puts it back.
func TestNginxRollsByReload(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.start(blue)
	p.start(green)
	proxy := startNginx(t, p.addr[blue], p.addr[green], "both")
	r := loadtest.Start(t, fresh(proxy.addr))
	n := p.roll(r, func(color, other string) {
		proxy.live(other)
		p.serves(proxy.addr, other)
		p.quiet(color)
		p.stop(color)
		p.start(color)
		proxy.live("both")
	})
	proxy.settle(r.Stop(), fmt.Sprintf("%d replaced in turn by reload", n))
}

// TestNginxRollsByFile does the same without a reload, and waits for nothing but the
// delay of the stop.
func TestNginxRollsByFile(t *testing.T) {
	t.Parallel()
	p := newPair(t, "--stop-delay", "500ms")
	p.start(blue)
	p.start(green)
	proxy := startNginx(t, p.addr[blue], p.addr[green], "both")
	r := loadtest.Start(t, kept(proxy.addr), fresh(proxy.addr))
	n := p.roll(r, func(color, _ string) {
		proxy.takeOut(color)
		p.stop(color)
		p.start(color)
		proxy.putBack(color)
	})
	proxy.settle(r.Stop(), fmt.Sprintf("%d replaced in turn by file", n))
}

// settle ends nginx and compares what it has logged with what the clients have sent.
func (n *nginx) settle(tally load.Tally, what string) {
	n.t.Helper()
	n.stop()
	c, seen := tally.Total(), n.requests()
	n.t.Logf("%s: %d requests sent, %d answered, %d connections, told to close %d; nginx logged %d good ones, %d others",
		what, c.Sent, c.Answered, c.Connects, c.ToldToClose, len(seen.posts), len(seen.bad))
	require.NoError(n.t, tally.Err())
	require.Zero(n.t, c.Reconnects, "a connection was closed silently")
	require.Empty(n.t, n.troubles())
	require.Empty(n.t, seen.bad)
	require.Equal(n.t, c.Sent, int64(len(seen.posts)), "nginx has logged what the clients have sent")
}
