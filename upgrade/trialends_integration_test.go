//go:build integration && linux

package upgrade_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// onTrial asks for an upgrade and waits until the new generation is in a phase and
// answers requests. It returns both pids.
func (x *trial) onTrial(phase string) (old, new int) {
	x.t.Helper()
	old = signal(x.t, x.cmd.PIDFile, syscall.SIGUSR2)
	require.Eventually(x.t, func() bool {
		for _, e := range entries(x.t, x.p.LogPath(), "on trial") {
			if e.Phase == phase {
				new = e.PID
			}
		}
		return new != 0
	}, 20*time.Second, 5*time.Millisecond)
	require.Eventually(x.t, func() bool {
		for _, e := range entries(x.t, x.p.LogPath(), "request") {
			if e.PID == new {
				return true
			}
		}
		return false
	}, 20*time.Second, 20*time.Millisecond)
	return old, new
}

// TestI4_StopOnTrial: the service is told to stop while a new generation is on
// trial. The upgrade is called off, and both are gone, in good order.
func TestI4_StopOnTrial(t *testing.T) {
	for _, phase := range []string{"canary", "probation"} {
		t.Run(phase, func(t *testing.T) {
			x := startTrial(t, "--"+phase, "60s", "--rule", "success >= 99%", "--drain-timeout", "10s")
			_, pid := x.onTrial(phase)
			tally := x.r.Stop()
			require.NoError(t, tally.Err())
			began := time.Now()
			stop(t, x.p) // SIGTERM to the old one; fails if a process is left, or the exit code is not 0
			require.Less(t, time.Since(began), 30*time.Second, "long before the trial would have ended")
			require.Error(t, syscall.Kill(pid, 0))
			require.Empty(t, entries(t, x.p.LogPath(), "request cut by the drain deadline"))
			t.Logf("sent %d, failed 0; both gone after %s", tally.Total().Sent, time.Since(began).Round(time.Millisecond))
		})
	}
}

// TestI4_TheOldGenerationDiesDuringATrial: nobody can take anything back any more, so
// the new generation serves.
func TestI4_TheOldGenerationDiesDuringATrial(t *testing.T) {
	for _, phase := range []string{"canary", "probation"} {
		t.Run(phase, func(t *testing.T) {
			x := startTrial(t, "--"+phase, "60s", "--rule", "success >= 99%")
			old, pid := x.onTrial(phase)
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			require.NoError(t, syscall.Kill(old, syscall.SIGKILL))
			require.Eventually(t, func() bool {
				serving, err := upgrade.ReadPIDFile(x.cmd.PIDFile)
				return err == nil && serving == pid
			}, 20*time.Second, 5*time.Millisecond, "it takes over")
			loadtest.Flowing(t, x.r, 64)
			lost := x.r.Snapshot().Total()
			if phase == "probation" {
				require.Zero(t, lost.Failed()+lost.Reconnects, "the old one held nothing any more")
			}
			require.LessOrEqual(t, lost.Failed()+lost.Reconnects, int64(64+8), "at most what it held")
			loadtest.Flowing(t, x.r, 64)
			tally := x.r.Stop().Total()
			require.Equal(t, lost.Failed()+lost.Reconnects, tally.Failed()+tally.Reconnects)
			require.Zero(t, tally.Failures[load.Refused])
			v, err := load.AskVersion(context.Background(), x.p.Addr("http"))
			require.NoError(t, err)
			require.Equal(t, pid, v.PID)
			t.Logf("sent %d, lost with the old one %d", tally.Sent, lost.Failed()+lost.Reconnects)
			require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
			require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 20*time.Second, 5*time.Millisecond)
		})
	}
}

// TestI4_ACanaryGetsItsShare counts who answers new connections while both generations
// accept.
func TestI4_ACanaryGetsItsShare(t *testing.T) {
	for _, share := range []string{"0.5", "0.1"} {
		t.Run(share, func(t *testing.T) {
			x := startTrial(t, "--canary", "3s", "--canary-share", share, "--rule", "success >= 99%")
			_, pid := x.onTrial("canary")
			before := x.r.Snapshot().Workloads["hello new"].Generations
			require.Eventually(t, func() bool { return len(entries(t, x.p.LogPath(), "verdict")) == 1 }, 20*time.Second, 20*time.Millisecond)
			after := x.r.Snapshot().Workloads["hello new"].Generations
			old, fresh := after[1]-before[1], after[2]-before[2]
			part := float64(fresh) / float64(old+fresh)
			t.Logf("of %d new connections pid %d answered %d: %.0f %%", old+fresh, pid, fresh, 100*part)
			require.Positive(t, fresh)
			if share == "0.1" {
				require.Less(t, part, 0.3, "the kernel gives no exact shares, but a tenth is no third")
			}
			require.Eventually(t, func() bool {
				serving, err := upgrade.ReadPIDFile(x.cmd.PIDFile)
				return err == nil && serving == pid
			}, 20*time.Second, 5*time.Millisecond)
			loadtest.Flowing(t, x.r, 64)
			tally := x.r.Stop()
			require.NoError(t, tally.Err())
			require.Zero(t, tally.Total().Reconnects+tally.Total().ToldToClose)
			last := signal(t, x.cmd.PIDFile, syscall.SIGTERM)
			require.Eventually(t, func() bool { return syscall.Kill(last, 0) != nil }, 20*time.Second, 5*time.Millisecond)
		})
	}
}

// TestI4_ATrialIsShortenedForAnOlderGeneration: the settings have a longer trial than
// the generation that runs knows of, which would kill its successor in the middle of it.
func TestI4_ATrialIsShortenedForAnOlderGeneration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yml")
	settings := "upgrade-timeout: 4s\nrule: panics <= 0\n"
	require.NoError(t, os.WriteFile(path, []byte(settings), 0o600))
	x := startTrial(t, "--config", path)
	require.NoError(t, os.WriteFile(path, []byte(settings+"canary: 30s\nprobation: 30s\n"), 0o600))
	x.good()
	require.NotEmpty(t, entries(t, x.p.LogPath(), "trial shortened: the previous generation would end this one before; its settings are older"))
	verdicts := entries(t, x.p.LogPath(), "verdict")
	require.Len(t, verdicts, 2)
	for _, v := range verdicts {
		require.True(t, v.Passed)
	}
	tally := x.r.Stop()
	require.NoError(t, tally.Err())
	stop(t, x.p)
}
