//go:build integration

package upgrade_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI2_NoRequestIsLost is the promise: upgrades under each kind of load, by a
// client that repeats nothing, and every request answered, exactly once. No
// connection that can move is closed.
func TestI2_NoRequestIsLost(t *testing.T) {
	binary := build(t, ".")
	for _, tc := range []struct {
		name     string
		upgrades int
		addr     string
		tls      bool
		load     load.Workload
	}{
		{"post without pause", 100, "127.0.0.1:0", false, load.Workload{Kind: load.Echo, Conns: 64}},
		{"post with pauses", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Echo, Conns: 256, Pause: 200 * time.Millisecond}},
		{"post with short pauses", 30, "127.0.0.1:0", false, load.Workload{Kind: load.Echo, Conns: 512, Pause: 100 * time.Millisecond}},
		{"post in two pieces", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Echo, Conns: 64, Split: 50 * time.Millisecond}},
		{"new connections", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Hello, Conns: 32, NewConn: true}},
		{"slow", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Slow, Conns: 32, Duration: 200 * time.Millisecond}},
		{"stream", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Stream, Conns: 16, Duration: 250 * time.Millisecond}},
		{"upload", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Upload, Conns: 8, Bytes: 1 << 20, Duration: 100 * time.Millisecond}},
		{"unix socket", 25, "unix", false, load.Workload{Kind: load.Echo, Conns: 32, Pause: 20 * time.Millisecond}},
		{"unix socket with new connections", 25, "unix", false, load.Workload{Kind: load.Echo, Conns: 16, NewConn: true}},
		{"tls", 25, "127.0.0.1:0", true, load.Workload{Kind: load.Echo, Conns: 32, Pause: 20 * time.Millisecond}},
		{"tls with new connections", 25, "127.0.0.1:0", true, load.Workload{Kind: load.Hello, Conns: 8, NewConn: true}},
		{"websocket", 25, "127.0.0.1:0", false, load.Workload{Kind: load.WebSocket, Conns: 16, Pause: 20 * time.Millisecond}},
		{"chat", 25, "127.0.0.1:0", false, load.Workload{Kind: load.Chat, Conns: 32, RoomSize: 8, Push: 50 * time.Millisecond}},
		{"chat over tls", 10, "127.0.0.1:0", true, load.Workload{Kind: load.Chat, Conns: 8, Push: 50 * time.Millisecond}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.addr == "unix" {
				tc.addr = "unix:" + filepath.Join(dir, "s.sock")
			}
			cmd := load.Serve(binary, dir, tc.addr)
			// A stuck connection must show as a failure, not as a long test.
			cmd.Args = append(cmd.Args, "--drain-timeout", "10s")
			name := "http"
			if tc.tls {
				cert, key, client := certificate(t, dir)
				cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
				cmd.TLS, name = client, "https"
			}
			p := start(t, cmd)
			tc.load.Addr = p.Addr(name)
			r := loadtest.Start(t, tc.load)
			loadtest.Flowing(t, r, int64(tc.load.Conns))
			for i := range tc.upgrades {
				r.SetPhase(load.During)
				u := up(t, p)
				gone(t, p, u.OldPID)
				r.SetPhase(load.After)
				require.Equal(t, i+2, u.Generation)
				loadtest.Flowing(t, r, int64(tc.load.Conns))
			}
			tally := r.Stop()
			stop(t, p)
			require.NoError(t, tally.Err())
			for _, c := range tally.Workloads {
				t.Logf("%d upgrades: sent %d, answered %d, failed %d, told to close %d, forced reconnects %d, moves seen %d",
					tc.upgrades, c.Sent, c.Answered, c.Failed(), c.ToldToClose, c.Reconnects, c.Moved)
				require.Zero(t, c.Reconnects, "no connection was closed under the client's hands")
				switch {
				case tc.load.NewConn:
				case tc.tls:
					require.Positive(t, c.ToldToClose, "the upgrades were felt")
				case tc.load.Kind == load.WebSocket, tc.load.Kind == load.Chat: // whose messages do not say who answers
					require.Zero(t, c.ToldToClose, "every connection moves")
					require.EqualValues(t, tc.load.Conns, c.Connects, "and none is made anew")
				default:
					require.Zero(t, c.ToldToClose, "every connection moves")
					require.EqualValues(t, tc.load.Conns, c.Connects, "and none is made anew")
					require.Positive(t, c.Moved, "the upgrades were felt")
				}
			}
			log, err := os.Open(p.LogPath())
			require.NoError(t, err)
			defer func() { _ = log.Close() }()
			require.NoError(t, tally.OnceIn(log))
			text, err := os.ReadFile(p.LogPath())
			require.NoError(t, err)
			for _, trouble := range []string{"DATA RACE", "panic", "request cut", `"level":"error"`} {
				require.NotContains(t, string(text), trouble)
			}
			left, err := filepath.Glob(filepath.Join(dir, "s*"))
			require.NoError(t, err)
			require.Equal(t, []string{filepath.Join(dir, "server.pid.reports"), filepath.Join(dir, "stderr.log")}, left,
				"PID file, state, lock and sockets are removed at the final stop, the reports stay")
		})
	}
}
