//go:build integration && linux

package upgrade_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// entry is a line of a server's log.
type entry struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	PID     int       `json:"pid"`
	Phase   string    `json:"phase"`
	Reason  string    `json:"reason"`
	Passed  bool      `json:"passed"`
}

// entries reads the lines with this message.
func entries(t testing.TB, path, message string) (all []entry) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		var e entry
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == message {
			all = append(all, e)
		}
	}
	return all
}

// trial is a service whose new generations are on trial, under load.
type trial struct {
	t    *testing.T
	dir  string
	path string // of the binary
	cmd  load.Command
	p    *load.Process
	r    *load.Runner
}

func startTrial(t *testing.T, args ...string) *trial {
	t.Helper()
	dir := t.TempDir()
	x := &trial{t: t, dir: dir, path: filepath.Join(dir, "holdfast")}
	install(t, build(t, "."), x.path)
	x.cmd = load.Serve(x.path, dir, "127.0.0.1:0")
	x.cmd.Args = append(x.cmd.Args, args...)
	x.p = start(t, x.cmd)
	x.r = loadtest.Start(t,
		load.Workload{Kind: load.Echo, Conns: 64, Pause: 20 * time.Millisecond, Addr: x.p.Addr("http")},
		load.Workload{Kind: load.Hello, Conns: 8, NewConn: true, Pause: 20 * time.Millisecond, Addr: x.p.Addr("http")})
	loadtest.Flowing(t, x.r, 64)
	return x
}

// refused asks for an upgrade that must fail in a phase, and returns what the asker
// is told.
func (x *trial) refused(phase string) string {
	x.t.Helper()
	pid := signal(x.t, x.cmd.PIDFile, syscall.SIGUSR2)
	said, err := holdfastWait(x.t, build(x.t, "."), x.cmd.PIDFile, pid)
	require.Error(x.t, err, said)
	require.Contains(x.t, said, "phase "+phase)
	serving, err := upgrade.ReadPIDFile(x.cmd.PIDFile)
	require.NoError(x.t, err)
	require.Equal(x.t, pid, serving, "the old generation goes on")
	return said
}

// good has a release without fault take over.
func (x *trial) good() {
	x.t.Helper()
	install(x.t, build(x.t, "."), x.path)
	u := up(x.t, x.p)
	gone(x.t, x.p, u.OldPID)
	loadtest.Flowing(x.t, x.r, 64)
}

// TestI4_ABadReleaseIsRolledBack ships releases that are well until they have
// traffic. The rules notice, and nothing is lost but the bad answers themselves.
func TestI4_ABadReleaseIsRolledBack(t *testing.T) {
	for _, phase := range []string{"canary", "probation"} {
		for _, tc := range []struct{ illness, rule, reason string }{
			{"errors 10", "success >= 99% over 5s min 50", "success"},
			{"slow 50", "p95 <= 1.5x old or 20ms over 5s min 50", "p95"},
			{"leak 200", "memory <= 2x old or 150MiB", "memory"},
		} {
			t.Run(phase+"/"+tc.illness, func(t *testing.T) {
				x := startTrial(t, "--"+phase, "10s", "--rule", tc.rule)
				require.NoError(t, os.WriteFile(filepath.Join(x.dir, "illness"), []byte(tc.illness), 0o600))
				install(t, build(t, "./testdata/releases/sick"), x.path)
				began := time.Now()
				said := x.refused(phase)
				took := time.Since(began)
				require.Contains(t, said, tc.reason)
				loadtest.Flowing(t, x.r, 64)

				tally := x.r.Stop()
				log := x.p.LogPath()
				bad := int64(len(entries(t, log, "bad answer")))
				var sent, failed int64
				for name, c := range tally.Workloads {
					sent += c.Sent
					failed += c.Failed()
					require.Equal(t, c.Failed(), c.Failures[load.Status], "%s: %v", name, tally.Err())
					require.Zero(t, c.Reconnects, name)
					require.Zero(t, c.ToldToClose, name)
				}
				require.Equal(t, bad, failed, "only its own bad answers")
				verdict, back := entries(t, log, "verdict"), entries(t, log, "accepts again")
				require.Len(t, verdict, 1)
				t.Logf("rolled back after %s; sent %d, failed %d, bad answers %d; %s; said: %s",
					took.Round(time.Millisecond), sent, failed, bad, accepted(t, phase, back, verdict[0].Time), said)
				stop(t, x.p)
			})
		}
	}
}

// accepted says when the old generation accepted again after something had happened.
// In a canary it never stops.
func accepted(t *testing.T, phase string, again []entry, after time.Time) string {
	t.Helper()
	if phase == "canary" {
		require.Empty(t, again)
		return "old never stopped accepting"
	}
	require.Len(t, again, 1)
	return "old accepted again after " + again[0].Time.Sub(after).Round(time.Microsecond).String()
}

// TestI4_ANewGenerationThatDiesOnTrial is killed, or stopped for good, while the
// old one could still take everything back. Lost is only what it held.
func TestI4_ANewGenerationThatDiesOnTrial(t *testing.T) {
	for _, tc := range []struct {
		phase  string
		signal syscall.Signal
		reason string
	}{
		{"canary", syscall.SIGKILL, "killed"},
		{"probation", syscall.SIGKILL, "killed"},
		{"canary", syscall.SIGSTOP, "no sign of life"},
		{"probation", syscall.SIGSTOP, "no sign of life"},
	} {
		t.Run(fmt.Sprintf("%s/%s", tc.phase, tc.signal), func(t *testing.T) {
			x := startTrial(t, "--"+tc.phase, "5s", "--rule", "success >= 99%")
			old := signal(t, x.cmd.PIDFile, syscall.SIGUSR2)
			var onTrial []entry
			require.Eventually(t, func() bool {
				onTrial = entries(t, x.p.LogPath(), "on trial")
				return len(onTrial) == 1
			}, 20*time.Second, 5*time.Millisecond)
			require.Equal(t, tc.phase, onTrial[0].Phase)
			// It answers some.
			require.Eventually(t, func() bool {
				for _, e := range entries(t, x.p.LogPath(), "request") {
					if e.PID == onTrial[0].PID {
						return true
					}
				}
				return false
			}, 10*time.Second, 10*time.Millisecond)
			at := time.Now()
			require.NoError(t, syscall.Kill(onTrial[0].PID, tc.signal))
			said, err := holdfastWait(t, build(t, "."), x.cmd.PIDFile, old)
			require.Error(t, err)
			require.Contains(t, said, tc.reason)
			require.Contains(t, said, "phase "+tc.phase)
			loadtest.Flowing(t, x.r, 64)
			before := x.r.Snapshot()
			lost := before.Total().Failed() + before.Total().Reconnects
			require.LessOrEqual(t, lost, int64(64+8), "at most what it held")
			back := accepted(t, tc.phase, entries(t, x.p.LogPath(), "accepts again"), at)

			// And from here on nothing more.
			x.good()
			tally := x.r.Stop()
			require.Equal(t, lost, tally.Total().Failed()+tally.Total().Reconnects)
			require.Zero(t, tally.Total().Failures[load.Refused])
			t.Logf("sent %d, lost with it %d; %s; said: %s", tally.Total().Sent, lost, back, said)
			stop(t, x.p)
		})
	}
}

// TestI4_TheSixthReleaseIsGood ships five that are bad in their own ways, and then a
// good one, which passes gate, canary and probation.
func TestI4_TheSixthReleaseIsGood(t *testing.T) {
	x := startTrial(t, "--gate", "http GET /readyz status=200..503 within=1s", "--gate-timeout", "2s",
		"--canary", "1s", "--canary-share", "0.2", "--probation", "1s",
		"--rule", "success >= 99% over 5s min 20", "--rule", "p95 <= 2x old or 30ms over 5s min 20", "--rule", "panics <= 0")
	for _, bad := range []struct{ release, illness, phase string }{
		{"./testdata/releases/exits", "", "start"},
		{"./testdata/releases/panics", "", "start"},
		{"./testdata/releases/sick", "errors 5", "canary"},
		{"./testdata/releases/deaf", "", "start"},
		{"./testdata/releases/sick", "slow 100", "canary"},
	} {
		if bad.illness != "" {
			require.NoError(t, os.WriteFile(filepath.Join(x.dir, "illness"), []byte(bad.illness), 0o600))
		}
		install(t, build(t, bad.release), x.path)
		x.refused(bad.phase)
	}
	x.good()
	require.Equal(t, 2, x.p.Version().Generation)
	tally := x.r.Stop()
	bad := int64(len(entries(t, x.p.LogPath(), "bad answer")))
	require.Equal(t, bad, tally.Total().Failed(), "%v", tally.Err())
	require.Zero(t, tally.Total().Reconnects+tally.Total().ToldToClose)
	t.Logf("five bad releases and a good one: sent %d, failed %d, bad answers %d", tally.Total().Sent, tally.Total().Failed(), bad)
	stop(t, x.p)
}

// TestI4_AGateThatDoesNotOpen keeps a release from all traffic.
func TestI4_AGateThatDoesNotOpen(t *testing.T) {
	dir := t.TempDir()
	flag := filepath.Join(dir, "open")
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	x := startTrial(t, "--gate", "exec /usr/bin/test -e "+flag+" within=2s", "--gate-timeout", "1s")
	require.NoError(t, os.Remove(flag))
	said := x.refused("gate")
	require.Contains(t, said, "exec /usr/bin/test")
	loadtest.Flowing(t, x.r, 64)
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	x.good()
	tally := x.r.Stop()
	require.NoError(t, tally.Err())
	require.Zero(t, tally.Total().Reconnects+tally.Total().ToldToClose)
	t.Logf("sent %d, failed 0; said: %s", tally.Total().Sent, said)
	stop(t, x.p)
}

// TestVerify judges a running service by its rules, from outside.
func TestVerify(t *testing.T) {
	verify := func(x *trial, args ...string) (string, error) {
		b, err := exec.Command(build(t, "."), append([]string{"verify", "--pid-file", x.cmd.PIDFile}, args...)...).CombinedOutput()
		return string(b), err
	}
	x := startTrial(t, "--rule", "success >= 99% over 2s min 20", "--rule", "panics <= 0")
	said, err := verify(x, "--for", "1s")
	require.NoError(t, err, said)
	require.Contains(t, said, "the service is well")

	// A release that is not, and has gone live without a trial.
	require.NoError(t, os.WriteFile(filepath.Join(x.dir, "illness"), []byte("errors 10"), 0o600))
	install(t, build(t, "./testdata/releases/sick"), x.path)
	u := up(t, x.p)
	gone(t, x.p, u.OldPID)
	said, err = verify(x, "--for", "20s")
	require.Error(t, err)
	require.Contains(t, said, "the service is not well: success is 9")
	require.Contains(t, said, "broken")

	// One that is replaced under the judge's eyes.
	install(t, build(t, "."), x.path)
	u = up(t, x.p)
	gone(t, x.p, u.OldPID)
	type verdict struct {
		said string
		err  error
	}
	long := make(chan verdict, 1)
	go func() {
		for {
			said, err := verify(x, "--for", "30s")
			if !strings.Contains(said, "judged already") { // by the other one below
				long <- verdict{said, err}
				return
			}
		}
	}()
	require.Eventually(t, func() bool {
		said, err := verify(x, "--for", "1ms")
		return err != nil && strings.Contains(said, "is being judged already")
	}, 20*time.Second, 10*time.Millisecond)
	up(t, x.p)
	v := <-long
	require.Error(t, v.err)
	require.Contains(t, v.said, "no verdict: the process that was judged makes way for another")

	plain := startTrial(t)
	said, err = verify(plain, "--for", "1s")
	require.Error(t, err)
	require.Contains(t, said, "has no rules")
}
