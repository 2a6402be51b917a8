//go:build integration

package upgrade_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI3_FiveHundredWebSocketsMove keeps half of them echoing and half of them in
// rooms in which the server speaks, too. None is closed, and every sequence is
// complete: the load client knows the number that each message must have.
func TestI3_FiveHundredWebSocketsMove(t *testing.T) {
	const upgrades = 20
	p := start(t, load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0"))
	r := loadtest.Start(t,
		load.Workload{Kind: load.WebSocket, Conns: 250, Pause: 100 * time.Millisecond, Addr: p.Addr("http")},
		load.Workload{Kind: load.Chat, Conns: 250, RoomSize: 5, Push: 50 * time.Millisecond, Pause: 200 * time.Millisecond, Addr: p.Addr("http")})
	loadtest.Flowing(t, r, 250)
	for range upgrades {
		u := up(t, p)
		gone(t, p, u.OldPID)
		loadtest.Flowing(t, r, 250)
	}
	tally := r.Stop()
	stop(t, p)
	require.NoError(t, tally.Err())
	for name, c := range tally.Workloads {
		t.Logf("%s: %d upgrades, sent %d, answered %d, failed %d, told to close %d, reconnects %d, repeated %d",
			name, upgrades, c.Sent, c.Answered, c.Failed(), c.ToldToClose, c.Reconnects, c.Repeated)
		require.Zero(t, c.ToldToClose+c.Reconnects+c.Repeated)
		require.EqualValues(t, 250, c.Connects, "none is closed")
	}
}
