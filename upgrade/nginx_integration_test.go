//go:build integration

package upgrade_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestI2_NginxSeesNoLoss has a real nginx, which keeps its connections to the server
// and repeats no POST, between the load and the upgrades. What the clients, nginx and
// the server have counted must be the same, to the last request.
func TestI2_NginxSeesNoLoss(t *testing.T) {
	const conns, wrkConns = 32, 64
	nginxPath, wrkPath := tool(t, "nginx"), tool(t, "wrk")
	binary := build(t, ".")
	for _, tc := range []struct {
		name     string
		unix     bool
		upgrades int
	}{
		{"tcp", false, 20},
		{"unix socket", true, 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			addr := "127.0.0.1:0"
			if tc.unix {
				addr = "unix:" + filepath.Join(dir, "s.sock")
			}
			cmd := load.Serve(binary, dir, addr)
			cmd.Args = append(cmd.Args, "--drain-timeout", "10s")
			p := start(t, cmd)
			upstream := p.Addr("http").Address
			if tc.unix {
				upstream = addr // as nginx writes it, too
			}
			proxy := startNginx(t, nginxPath, upstream)
			w := startWrk(t, wrkPath, "http://"+proxy.addr+"/echo", wrkConns)
			require.Eventually(t, func() bool {
				info, err := os.Stat(proxy.path(accessLog))
				return err == nil && info.Size() > 0
			}, 10*time.Second, 5*time.Millisecond, "wrk does not send")
			r := runner(t, load.Workload{
				Kind: load.Echo, Conns: conns, Pause: 100 * time.Millisecond,
				Addr: load.Addr{Network: "tcp", Address: proxy.addr},
			})
			flowing(t, r, conns)

			for i := range tc.upgrades {
				r.SetPhase(load.During)
				u := up(t, p)
				require.Equal(t, i+2, u.Generation)
				if i%2 == 1 {
					continue // the next one is asked for in this one's drain
				}
				gone(t, p, u.OldPID)
				r.SetPhase(load.After)
				flowing(t, r, 10*conns)
			}
			flowing(t, r, conns)
			tally := r.Stop()
			counted := w.stop()
			proxy.stop()
			stop(t, p)

			c := tally.Total()
			served := readServerLog(t, p.LogPath())
			ids, clients, bad := proxy.requests(upstream)
			t.Logf("%d upgrades: nginx logged %d good requests, %d others; wrk sent %d, the load client %d; "+
				"of %d connections that were open when a drain began %d were closed silent, %d dropped",
				tc.upgrades, len(ids), len(bad), counted.Requests, c.Sent, served.atDrain, served.silent, served.dropped)
			if !tc.unix {
				t.Logf("the requests came on %d connections of nginx", len(served.peers))
			}
			require.Empty(t, proxy.troubles())
			require.Empty(t, bad, "nginx has had an answer of 200 to everything")
			require.NoError(t, tally.Err())
			require.Equal(t, wrkCounts{Requests: counted.Requests}, counted, "wrk met no error")
			require.Positive(t, counted.Requests)
			require.Equal(t, c.Sent+counted.Requests, int64(len(ids)), "nginx has logged what the clients have sent")
			require.Empty(t, differences(ids, served.posts), "the server has answered what nginx has asked, once")
			require.Equal(t, conns+wrkConns, clients, "nginx has kept its clients' connections")
			require.Greater(t, len(c.Generations), tc.upgrades/2, "the generations have answered")
			require.Zero(t, served.silent+served.dropped, "no connection was closed under nginx's hands")
		})
	}
}

// serverLog is what the generations have logged.
type serverLog struct {
	posts                    map[string]int  // how often each request id of a POST has been answered
	peers                    map[string]bool // where they came from
	atDrain, silent, dropped int             // connections: when drains began, and of them
}

func readServerLog(t testing.TB, path string) serverLog {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	log := serverLog{posts: make(map[string]int), peers: make(map[string]bool)}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var l struct {
			Level, Message, Method, Peer string
			ID                           string `json:"request_id"`
			Connections, Dropped         int
			Silent                       int `json:"silent_closed"`
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &l), lines.Text())
		require.Contains(t, []string{"debug", "info"}, l.Level, lines.Text())
		switch {
		case l.Message == "drained":
			log.atDrain += l.Connections
			log.silent += l.Silent
			log.dropped += l.Dropped
		case l.Message == "request" && l.Method == "POST":
			log.posts[l.ID]++
			log.peers[l.Peer] = true
		}
	}
	require.NoError(t, lines.Err())
	return log
}

// differences lists the first ids that are not as often in one log as in the other.
func differences(proxy, server map[string]int) (ids []string) {
	const shown = 10
	all := maps.Clone(proxy)
	maps.Copy(all, server)
	for id := range all {
		if proxy[id] != server[id] && len(ids) < shown {
			ids = append(ids, fmt.Sprintf("%s: nginx %d, server %d", id, proxy[id], server[id]))
		}
	}
	return ids
}
