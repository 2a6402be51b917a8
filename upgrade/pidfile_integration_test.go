//go:build integration

package upgrade_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// sighting is a pid that the PID file held at a time.
type sighting struct {
	pid   int
	first time.Time // before the file was read the first time
	last  time.Time // before it was read the last time
}

// TestI5_ThePIDFileNamesAServingProcess reads the file without pause through
// upgrades, good and bad. It always names a live process, and never one that had
// begun to drain before the file was read.
func TestI5_ThePIDFileNamesAServingProcess(t *testing.T) {
	const upgrades = 50
	dir := t.TempDir()
	good, bad := build(t, "."), build(t, "./testdata/releases/exits")
	path := filepath.Join(dir, "holdfast")
	install(t, good, path)
	cmd := load.Serve(path, dir, "127.0.0.1:0")
	p := start(t, cmd)
	r := loadtest.Start(t, load.Workload{Kind: load.Echo, Conns: 8, Addr: p.Addr("http")})
	loadtest.Flowing(t, r, 8)

	var seen []sighting
	var reads int
	var wrong []string
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			now := time.Now()
			pid, err := upgrade.ReadPIDFile(cmd.PIDFile)
			reads++
			switch {
			case err != nil:
				wrong = append(wrong, err.Error())
				return
			case len(seen) == 0 || seen[len(seen)-1].pid != pid:
				seen = append(seen, sighting{pid: pid, first: now, last: now})
			default:
				seen[len(seen)-1].last = now
			}
			if syscall.Kill(pid, 0) != nil {
				if again, err := upgrade.ReadPIDFile(cmd.PIDFile); err == nil && again == pid {
					wrong = append(wrong, "it names a dead process")
					return
				}
			}
		}
	})
	bads := 0
	for i := range upgrades {
		if i%5 == 2 {
			install(t, bad, path)
			pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
			_, err := holdfastWait(t, good, cmd.PIDFile, pid)
			require.Error(t, err)
			install(t, good, path)
			bads++
			continue
		}
		u := up(t, p)
		gone(t, p, u.OldPID)
	}
	close(done)
	group.Wait()
	tally := r.Stop()
	require.NoError(t, tally.Err())
	stop(t, p)
	require.Empty(t, wrong)
	require.Len(t, seen, upgrades-bads+1, "each generation was named once")
	left := leaving(t, p.LogPath())
	for _, s := range seen {
		require.Contains(t, left, s.pid)
		require.False(t, s.last.After(left[s.pid]), "pid %d was named %s after it had begun to leave", s.pid, s.last.Sub(left[s.pid]))
	}
	t.Logf("%d upgrades, %d of them bad: the PID file was read %d times; it named %d processes, each live and serving", upgrades, bads, reads, len(seen))
}

// leaving reads from a log when each process began to drain, or to stop.
func leaving(t *testing.T, path string) map[int]time.Time {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	at := map[int]time.Time{}
	for line := range strings.Lines(string(b)) {
		var e struct {
			Message string    `json:"message"`
			PID     int       `json:"pid"`
			To      string    `json:"to"`
			Time    time.Time `json:"time"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "state" && (e.To == "draining" || e.To == "stopping") {
			at[e.PID] = e.Time
		}
	}
	return at
}
