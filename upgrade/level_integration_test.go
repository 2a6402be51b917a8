//go:build integration && linux

package upgrade_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// footprint is what a process holds.
type footprint struct {
	files int
	rss   int // KiB
}

func measure(t *testing.T, pid int) footprint {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	require.NoError(t, err)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	require.NoError(t, err)
	f := footprint{files: len(fds)}
	for line := range strings.Lines(string(status)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &f.rss)
	}
	return f
}

// children counts the processes whose parent is pid, zombies among them.
func children(t *testing.T, pid int) (n, zombies int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (comm) state ppid …; comm may hold anything (proc(5)).
		rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if rest[1] == strconv.Itoa(pid) {
			n++
			if rest[0] == "Z" {
				zombies++
			}
		}
	}
	return n, zombies
}

// members are the living processes of a group. Whoever adopts those that have ended
// reaps them in his own time.
func members(t *testing.T, group int) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (comm) state ppid pgrp … (proc(5)).
		rest := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if rest[2] == strconv.Itoa(group) && rest[0] != "Z" {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(s)))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestI9_NothingIsLeftBehind upgrades two hundred times, with a failed upgrade now
// and then, and finds the last generation no bigger than an early one.
func TestI9_NothingIsLeftBehind(t *testing.T) {
	const upgrades, early = 200, 20
	dir, tmp := t.TempDir(), t.TempDir()
	good, bad := build(t, "."), build(t, "./testdata/releases/exits")
	path := filepath.Join(dir, "holdfast")
	install(t, good, path)
	cmd := load.Serve(path, dir, "127.0.0.1:0", "unix:"+filepath.Join(dir, "s.sock"))
	cmd.Env = []string{"TMPDIR=" + tmp}
	p := start(t, cmd)
	r := loadtest.Start(t, load.Workload{Kind: load.Echo, Conns: 8, Pause: 10 * time.Millisecond, Addr: p.Addr("http")})

	var first footprint
	for i := 1; i <= upgrades; i++ {
		if i%10 == 5 {
			install(t, bad, path)
			pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
			_, err := holdfastWait(t, good, cmd.PIDFile, pid)
			require.Error(t, err)
			n, zombies := children(t, pid)
			require.Zero(t, n, "children of the old generation, %d of them zombies", zombies)
			install(t, good, path)
		}
		u := up(t, p)
		gone(t, p, u.OldPID)
		require.Equal(t, i+1, u.Generation)
		if i == early {
			first = measure(t, u.PID)
		}
	}
	loadtest.Flowing(t, r, 8)
	pid := p.Version().PID
	last := measure(t, pid)
	t.Logf("after %d upgrades: %d descriptors, %d KiB; after %d: %d descriptors, %d KiB",
		early, first.files, first.rss, upgrades, last.files, last.rss)
	// The load's connections come and go; each is one descriptor.
	require.InDelta(t, first.files, last.files, 8, "descriptors")
	require.Less(t, last.rss, 2*first.rss, "resident memory")

	tally := r.Stop()
	require.NoError(t, tally.Err())
	for name, c := range tally.Workloads {
		t.Logf("%s: sent %d, failed %d", name, c.Sent, c.Failed())
	}
	// The account comes when the old generation has gone, first into the reports and
	// then into the state file: until then one of them may be half replaced.
	require.Eventually(t, func() bool {
		st, err := upgrade.ReadStatus(cmd.PIDFile)
		return err == nil && st.Upgrade != nil && st.Upgrade.Connections != nil
	}, time.Minute, 5*time.Millisecond, "no account of the last upgrade")
	files := func(dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	require.Equal(t, []string{"holdfast", "s.sock", "server.pid", "server.pid.admin", "server.pid.lock", "server.pid.reports", "server.pid.state", "stderr.log"}, files(dir))
	require.Empty(t, files(tmp))
	stop(t, p)
	require.Equal(t, []string{"holdfast", "server.pid.reports", "stderr.log"}, files(dir))

	// Each generation says, when it has drained, how many goroutines are left.
	left := drained(t, p.LogPath())
	require.Len(t, left, upgrades+1)
	a, b := mean(left[:early]), mean(left[upgrades-early:])
	t.Logf("goroutines when drained: %.1f in the first %d generations, %.1f in the last, at most %d", a, early, b, slices.Max(left))
	// A connection's goroutine may still be on its way out: level, not equal.
	require.InDelta(t, a, b, 1.5)
}

func mean(ns []int) float64 {
	sum := 0
	for _, n := range ns {
		sum += n
	}
	return float64(sum) / float64(len(ns))
}

// TestI9_FailedUpgradesLeaveNothingBehind asks one process again and again for an
// upgrade that fails.
func TestI9_FailedUpgradesLeaveNothingBehind(t *testing.T) {
	dir := t.TempDir()
	good := build(t, ".")
	path := filepath.Join(dir, "holdfast")
	install(t, good, path)
	cmd := load.Serve(path, dir, "127.0.0.1:0")
	p := start(t, cmd)
	install(t, build(t, "./testdata/releases/exits"), path)
	var first footprint
	for i := range 40 {
		pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
		_, err := holdfastWait(t, good, cmd.PIDFile, pid)
		require.Error(t, err)
		if i == 5 {
			first = measure(t, pid)
		}
	}
	pid := p.Version().PID
	last := measure(t, pid)
	t.Logf("after 6 failed upgrades: %d descriptors, %d KiB; after 40: %d descriptors, %d KiB", first.files, first.rss, last.files, last.rss)
	require.InDelta(t, first.files, last.files, 3, "descriptors")
	n, _ := children(t, pid)
	require.Zero(t, n, "children")
	install(t, good, path)
	for range 2 {
		u := up(t, p)
		gone(t, p, u.OldPID)
	}
	stop(t, p)
	left := drained(t, p.LogPath())
	require.Len(t, left, 3)
	require.InDelta(t, left[0], left[1], 2, "goroutines of the process that failed 40 times, and of one that never did, as they drain")
}

// drained reads from a log how many goroutines each generation had at its end.
func drained(t *testing.T, path string) (counts []int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		var e struct {
			Message    string `json:"message"`
			Goroutines int    `json:"goroutines"`
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "drained" {
			counts = append(counts, e.Goroutines)
		}
	}
	return counts
}
