//go:build integration && linux

package upgrade_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// moves says whether an established plaintext connection moves to the new process.
// If not, it may be told to close, and what was pipelined behind that is repeated.
const moves = true

// TestI3_ProtocolCornersMove upgrades under clients that use what HTTP/1.1 permits
// and few clients do. Each of them makes another state in which a connection must
// not move, or moves with bytes of the next message; a mistake there loses a request
// or answers the wrong one.
func TestI3_ProtocolCornersMove(t *testing.T) {
	const upgrades = 20
	binary := build(t, ".")
	for _, tc := range []struct {
		name   string
		speak  func(*dialog)
		beside func(*dialog) // what half as many other clients do meanwhile, or nil
		pause  time.Duration // longest pause between two dialogs
		rounds int           // how often the clients stop and begin anew: 0 is once
		ends   bool          // the clients end their connections
	}{
		{name: "pipelined", speak: pipeline, pause: 20 * time.Millisecond},
		{name: "pipelined in pieces", speak: split, pause: 10 * time.Millisecond},
		{name: "byte by byte", speak: trickle, pause: 40 * time.Millisecond},
		{name: "expect", speak: expect, pause: 20 * time.Millisecond},
		{name: "chunked", speak: upload, pause: 20 * time.Millisecond},
		{name: "http 1.0", speak: keepAlive, pause: 40 * time.Millisecond},
		{name: "blank lines", speak: blankLines, pause: 10 * time.Millisecond},
		{name: "full buffer", speak: overfill, pause: 20 * time.Millisecond},
		{name: "half-closed", speak: halfClose, pause: 20 * time.Millisecond, ends: true},
		{name: "leaving", speak: leave, beside: split, pause: time.Millisecond, rounds: 4, ends: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := load.Serve(binary, t.TempDir(), "127.0.0.1:0")
			// A stuck connection must show as a failure, not as a long test.
			cmd.Args = append(cmd.Args, "--drain-timeout", "10s")
			p := start(t, cmd)
			crowds := []*crowd{{name: "speak", speak: tc.speak, size: 16, pause: tc.pause, ends: tc.ends}}
			if tc.beside != nil {
				crowds = append(crowds, &crowd{name: "beside", speak: tc.beside, size: 8, pause: tc.pause})
			}
			rounds := max(tc.rounds, 1)
			for round := range rounds {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				for _, k := range crowds {
					k.start(ctx, p.Addr("http"), round)
				}
				for range upgrades / rounds {
					talking(t, crowds)
					u := up(t, p)
					gone(t, p, u.OldPID)
				}
				talking(t, crowds)
				require.Positive(t, connections(t, p.Version().PID))
				cancel()
				for _, k := range crowds {
					k.wait()
				}
				// It closes in its own time what the clients have closed.
				pid := p.Version().PID
				require.Eventually(t, func() bool { return connections(t, pid) == 0 },
					10*time.Second, 5*time.Millisecond, "descriptors of connections are left behind")
			}
			stop(t, p)
			log, err := os.ReadFile(p.LogPath())
			require.NoError(t, err)
			for _, trouble := range []string{"DATA RACE", "panic", "request cut", `"level":"error"`} {
				require.NotContains(t, string(log), trouble)
			}
			for _, k := range crowds {
				t.Logf("%s: %d upgrades: %s", k.name, upgrades, k)
				k.check(t)
				k.onceIn(t, string(log))
				if !moves {
					continue
				}
				require.Zero(t, k.told.Load(), "told to close")
				require.Zero(t, k.repeated.Load(), "repeated")
				if !k.ends {
					require.EqualValues(t, k.size*rounds, k.connects.Load(), "one connection for each client")
				}
			}
			// A client that leaves is not there to see that it has moved.
			felt := crowds[len(crowds)-1]
			if moves {
				require.Positive(t, felt.moved.Load(), "the upgrades were felt")
			} else {
				require.Positive(t, felt.told.Load(), "the upgrades were felt")
			}
		})
	}
}

// talking waits until each crowd has had some more answers.
func talking(t *testing.T, crowds []*crowd) {
	t.Helper()
	want := make([]int64, len(crowds))
	for i, k := range crowds {
		want[i] = k.answered.Load() + 3*int64(k.size)
	}
	require.Eventually(t, func() bool {
		enough := true
		for i, k := range crowds {
			if k.lost() > 0 {
				return true
			}
			enough = enough && k.answered.Load() >= want[i]
		}
		return enough
	}, 20*time.Second, 2*time.Millisecond, "the clients get no answers")
	for _, k := range crowds {
		require.Zero(t, k.lost(), "requests lost: %s\n%s", k, k.events())
	}
}

// connections counts the descriptors of a process that are sockets and neither a
// listener nor a link to another generation. A connection that was reset is in none
// of the kernel's tables, and counts as long as it is not closed.
func connections(t *testing.T, pid int) (n int) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	require.NoError(t, err)
	var sockets []string
	for _, fd := range fds {
		to, _ := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			sockets = append(sockets, strings.TrimSuffix(inode, "]"))
		}
	}
	// See proc_net_tcp in the kernel's documentation, and unix(7).
	other := make(map[string]bool)
	for table, column := range map[string]int{"tcp": 9, "unix": 6} {
		b, err := os.ReadFile(filepath.Join(dir, "net", table))
		require.NoError(t, err)
		for line := range strings.Lines(string(b)) {
			const listening = "0A"
			if f := strings.Fields(line); len(f) > column && (table == "unix" || f[3] == listening) {
				other[f[column]] = true
			}
		}
	}
	for _, inode := range sockets {
		if !other[inode] {
			n++
		}
	}
	return n
}

// check is what must hold, whatever becomes of the connections.
func (k *crowd) check(t *testing.T) {
	t.Helper()
	require.Zero(t, k.lost(), "requests lost: %s", k.events())
	require.Equal(t, k.sent.Load(), k.answered.Load(), "each request is answered")
	require.Zero(t, k.unasked.Load(), "answers to nothing: %s", k.events())
	require.Zero(t, k.reconnects.Load(), "closed under the client's hands: %s", k.events())
}

// onceIn compares with the access log: each request was carried out once, and none
// that nobody has sent.
func (k *crowd) onceIn(t *testing.T, log string) {
	t.Helper()
	times := make(map[string]int)
	for line := range strings.Lines(log) {
		var e struct {
			Message string `json:"message"`
			ID      string `json:"request_id"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "request" && strings.HasPrefix(e.ID, k.name+"-") {
			times[e.ID]++
		}
	}
	require.EqualValues(t, k.sent.Load(), len(times), "requests in the access log")
	for id, n := range times {
		require.Equal(t, 1, n, "request %s was carried out more than once", id)
	}
}

// String is the count of everything.
func (k *crowd) String() string {
	var lost strings.Builder
	for class := range k.failed {
		if n := k.failed[class].Load(); n > 0 {
			fmt.Fprintf(&lost, " (%s %d)", load.Class(class), n)
		}
	}
	return fmt.Sprintf("sent %d, answered %d, failed %d%s, unasked %d; connects %d, told to close %d, reconnects %d, moved %d, repeated %d",
		k.sent.Load(), k.answered.Load(), k.lost(), &lost, k.unasked.Load(),
		k.connects.Load(), k.told.Load(), k.reconnects.Load(), k.moved.Load(), k.repeated.Load())
}
