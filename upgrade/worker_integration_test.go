//go:build integration

package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade"
)

// worker starts the service of testdata/services/worker and returns its journal.
type worker struct {
	t    *testing.T
	proc *service
	dir  string
	pid  string
}

func startWorker(t *testing.T) *worker {
	t.Helper()
	dir := t.TempDir()
	w := &worker{t: t, dir: dir, pid: filepath.Join(dir, "worker.pid")}
	w.proc = startService(t, build(t, "./testdata/services/worker"), dir, "127.0.0.1:0", "unix:"+filepath.Join(dir, "w.sock"))
	w.serving(1)
	return w
}

// serving waits until a generation serves, and returns its pid.
func (w *worker) serving(generation int) int {
	w.t.Helper()
	var s upgrade.Status
	require.Eventually(w.t, func() bool {
		var err error
		s, err = upgrade.ReadStatus(w.pid)
		return err == nil && s.Generation == generation && s.State == "serving"
	}, 20*time.Second, 2*time.Millisecond, "generation %d serves", generation)
	return s.PID
}

// journal waits until the file has this line, and returns all of it.
func (w *worker) journal(line string) []string {
	w.t.Helper()
	var lines []string
	require.Eventually(w.t, func() bool {
		b, err := os.ReadFile(filepath.Join(w.dir, "journal"))
		lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		return err == nil && strings.Contains("\n"+string(b), "\n"+line+"\n")
	}, 20*time.Second, 2*time.Millisecond, line)
	return lines
}

func TestBackgroundWorkThroughUpgrades(t *testing.T) {
	w := startWorker(t)
	for g := 2; g <= 6; g++ {
		w.journal(fmt.Sprintf("%d exclusive begins", g-1))
		signal(t, w.pid, syscall.SIGUSR2)
		w.serving(g)
	}
	w.journal("6 exclusive begins")
	pid := signal(t, w.pid, syscall.SIGTERM)
	w.journal("6 flushed")
	w.proc.wait(pid)

	at := map[string]int{}
	for i, line := range w.journal("6 flushed") {
		_, twice := at[line]
		require.False(t, twice, line)
		at[line] = i
	}
	for g := 1; g <= 6; g++ {
		for _, pair := range [][2]string{
			{"%d warmed up", "%d shared begins"},
			{"%d warmed up", "%d exclusive begins"},
			{"%d shared begins", "%d shared ends"},
			{"%d exclusive begins", "%d exclusive ends"},
			{"%d exclusive ends", "%d flushed"},
			{"%d shared ends", "%d flushed"},
		} {
			a, b := fmt.Sprintf(pair[0], g), fmt.Sprintf(pair[1], g)
			require.Contains(t, at, a)
			require.Contains(t, at, b)
			require.Less(t, at[a], at[b], "%s before %s", a, b)
		}
		if g > 1 {
			require.Less(t, at[fmt.Sprintf("%d exclusive ends", g-1)], at[fmt.Sprintf("%d exclusive begins", g)], "never two at once")
		}
	}
}

// The old generation is killed while it holds the exclusive work: the new one
// gets it.
func TestExclusiveWorkOutlivesACrash(t *testing.T) {
	w := startWorker(t)
	w.journal("1 exclusive begins")
	// Not drained while this request is unfinished.
	old := signal(t, w.pid, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(old, syscall.SIGKILL) })
	require.NoError(t, syscall.Kill(old, syscall.SIGUSR2))
	require.NoError(t, syscall.Kill(old, syscall.SIGCONT))
	w.serving(2)
	_ = syscall.Kill(old, syscall.SIGKILL)
	w.journal("2 exclusive begins")
	pid := signal(t, w.pid, syscall.SIGTERM)
	w.journal("2 flushed")
	w.proc.wait(pid)
}

func TestI4_WarmUpThatFailsOrHangs(t *testing.T) {
	w := startWorker(t)
	pid := w.serving(1)
	for mode, reason := range map[string]string{
		"cold":  "warm-up: cache: no connection to the cache",
		"stuck": "context deadline exceeded",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, "mode"), []byte(mode), 0o600))
		signal(t, w.pid, syscall.SIGUSR2)
		said, err := holdfastWait(t, build(t, "."), w.pid, pid)
		require.Error(t, err)
		require.Contains(t, said, reason)
		require.Equal(t, pid, w.serving(1), "the old generation goes on")
	}
	require.NoError(t, os.Remove(filepath.Join(w.dir, "mode")))
	signal(t, w.pid, syscall.SIGUSR2)
	w.serving(2)
	journal := strings.Join(w.journal("2 exclusive begins"), "\n")
	require.NotContains(t, journal, "\n2 shared begins\n2 warmed up")
	last := signal(t, w.pid, syscall.SIGTERM)
	w.proc.wait(last)
}
