//go:build integration && linux

package systemd_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// TestManagers runs the service under real managers: a user's, with what such a one
// cannot do left out of the unit (see beyond), and the system's, with the unit as it
// ships. There User=, the capabilities and the sandbox are in force; limits that need a
// cgroup controller are not (see systemdtest).
//
// The manager gives a start, a reload and a stop 3 seconds each, and the watchdog, too.
// What takes longer by the service's own settings takes 4 and must survive.
func TestManagers(t *testing.T) {
	binaries := moody(t)
	for _, mode := range []systemdtest.Mode{systemdtest.User, systemdtest.System} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel() // each has a network and cgroups of its own
			s := newStand(t, mode, binaries)
			if s == nil {
				return
			}
			for _, tc := range cases {
				if !t.Run(tc.name, func(t *testing.T) { tc.run(s.in(t)) }) {
					return // the next ones would begin with what it has left
				}
			}
			s.end()
		})
	}
}

var cases = []struct {
	name string
	run  func(*stand)
}{
	{"reload ten times", reloads},
	{"failed reload", failedReload},
	{"long start", longStart},
	{"long trial", longTrial},
	{"long wait for a reload", longWait},
	{"long stop", longStop},
	{"restart", restart},
	{"stop in every phase", stops},
	{"kill the serving one", killServing},
	{"kill the old one while it drains", killDraining},
	{"kill the new one before its commit", killComing},
	{"kill the new one while the old one drains", killNewWhileDraining},
	{"watchdog", watchdog},
	{"addresses change", addressesChange},
	{"Unix socket", unixSocket},
	{"socket unit", socketUnit},
}

func reloads(s *stand) {
	s.fresh()
	pinged := s.Show(unit, "WatchdogTimestampMonotonic")
	s.load(0, func() {
		for i := range 10 {
			release := []string{"v2", "v1"}[i%2]
			s.release(release)
			v := s.reload()
			require.Equal(s.t, i+2, v.Generation)
			require.Equal(s.t, release, v.Build)
			// Generations that follow each other within seconds never come to a ping.
			now := s.Show(unit, "WatchdogTimestampMonotonic")
			require.NotEqual(s.t, pinged, now)
			pinged = now
		}
		s.settled()
	})
}

func failedReload(s *stand) {
	v := s.fresh()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.Dir, "bad"), []byte("#!/bin/sh\necho no database >&2\nexit 3\n"), 0o755))
	s.load(0, func() {
		s.release("bad")
		_, err := s.Systemctl("reload", unit)
		require.Error(s.t, err, "the reload tells the truth")
		require.Equal(s.t, v, s.settled())
		require.Contains(s.t, s.status(), "; upgrade failed (start): the new process ended before it was ready: exit status 3")
		require.Contains(s.t, s.status(), "; process "+strconv.Itoa(v.PID)+" goes on")

		// One that hangs beyond our own deadline is ended by us.
		s.release("v2")
		s.write("warm-up-timeout: 1s\n", "1h")
		began := time.Now()
		_, err = s.Systemctl("reload", unit)
		require.Error(s.t, err)
		require.Less(s.t, time.Since(began), 10*time.Second)
		require.Equal(s.t, v, s.settled())
		require.Contains(s.t, s.status(), "; upgrade failed (warm-up): upgrade: warm-up: cache: not done")

		s.write("", "")
		require.Equal(s.t, 2, s.reload().Generation)
		require.NotContains(s.t, s.settled().Build+s.status(), "failed")
	})
}

func longStart(s *stand) {
	s.fresh()
	s.end()
	s.write("", "4s")
	started := s.background("start", unit)
	s.says("starting: warming up, cache, ", " left")
	require.NoError(s.t, started(), s.logs())
	s.settled()
	require.Equal(s.t, "0", s.Show(unit, "NRestarts"))
}

const trial = "rule: [\"success >= 50% over 10s\"]\ncanary: 2s\nprobation: 2s\n"

func longTrial(s *stand) {
	s.fresh()
	s.write(trial, "")
	s.release("v2")
	s.load(0, func() {
		reloaded := s.background("reload", unit)
		s.says("upgrading to generation 2, build v2: canary, ", " left")
		s.says("upgrading to generation 2, build v2: probation, ", " left")
		require.NoError(s.t, reloaded(), s.logs())
		require.Equal(s.t, 2, s.settled().Generation)
	})
}

// longWait asks for an upgrade that has to wait until the generation before is gone.
func longWait(s *stand) {
	s.fresh()
	a := s.slow(4500 * time.Millisecond)
	s.reload()
	reloaded := s.background("reload", unit)
	s.says("serving, generation 2, build v1; generation 1 still drains 1 connection, 1 request; an upgrade waits for that")
	s.answered(a)
	require.NoError(s.t, reloaded(), s.logs())
	require.Equal(s.t, 3, s.settled().Generation)
}

func longStop(s *stand) {
	s.fresh()
	a := s.slow(4 * time.Second)
	stopped := s.background("stop", unit)
	s.says("stopping: 1 connection, 1 request left, at most ")
	s.answered(a)
	require.NoError(s.t, stopped())
	require.Equal(s.t, "success", s.Show(unit, "Result"))
	s.gone()

	// What hangs beyond our own deadline is cut by us.
	s.fresh()
	s.write("drain-timeout: 1s\n", "")
	s.reload()
	s.settled()
	s.slow(time.Minute)
	began := time.Now()
	s.Must("stop", unit)
	require.Less(s.t, time.Since(began), 3*time.Second, "by us")
	require.Equal(s.t, "success", s.Show(unit, "Result"))
}

func restart(s *stand) {
	s.fresh()
	s.load(0, func() {
		for range 2 {
			s.Must("restart", unit)
			require.Equal(s.t, 1, s.settled().Generation)
		}
		s.reload()
		s.Must("restart", unit) // of a process that is not the manager's child
		require.Equal(s.t, 1, s.settled().Generation)
	})
}

// stops stops the service in each phase of an upgrade. What is in flight is answered.
func stops(s *stand) {
	for _, tc := range []struct{ phase, more, mood, says string }{
		{"warm-up", "", "3s", ": warming up, cache"},
		{"gate", "gate: [\"http GET /gate status=200\"]\n", "", ": gate, "},
		{"canary", strings.ReplaceAll(trial, "2s", "20s"), "", ": canary, "},
		{"probation", "rule: [\"success >= 50% over 10s\"]\nprobation: 20s\n", "", ": probation, "},
		{"drain", "", "", "serving, generation 2, build v1; generation 1 still drains 1 connection, 1 request"},
	} {
		s.t.Run(tc.phase, func(t *testing.T) {
			s := s.in(t)
			s.fresh()
			s.shut(true)
			s.write(tc.more, tc.mood)
			inFlight := 700 * time.Millisecond
			if tc.phase == "drain" {
				inFlight = 2500 * time.Millisecond // the status follows within a second
			}
			a := s.slow(inFlight)
			reloaded := s.background("reload", unit)
			s.says(tc.says)
			if tc.phase != "drain" {
				s.reloadWaits()
			}
			stopped := s.background("stop", unit)
			s.answered(a)
			require.NoError(t, stopped(), s.logs())
			_ = reloaded() // the stop has taken its place, or it was done
			require.Equal(t, "success", s.Show(unit, "Result"))
			s.gone()
		})
	}
	// And in the first one's start.
	s.fresh()
	s.end()
	s.write("", "3s")
	started := s.background("start", unit)
	s.says("starting: warming up")
	s.Must("stop", unit)
	require.Error(s.t, started())
	s.gone()
}

// reloadWaits waits until the second command of a reload does what it is there for. The
// manager's SIGTERM before would be the end of a process that is not even that command.
func (s *stand) reloadWaits() {
	s.t.Helper()
	s.until("the reload waits", func() bool {
		pid := s.Show(unit, "ControlPID")
		b, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		return err == nil && len(b) > 0
	})
}

// restarted waits until another process serves than pid, as the first of its line.
func (s *stand) restarted(pid int) load.Version {
	s.t.Helper()
	s.until("the service is started again", func() bool {
		main := s.Show(unit, "MainPID")
		return main != "0" && main != strconv.Itoa(pid) && s.Show(unit, "ActiveState") == "active"
	})
	v := s.settled()
	require.NotEqual(s.t, pid, v.PID)
	require.Equal(s.t, 1, v.Generation)
	return v
}

func killServing(s *stand) {
	v := s.fresh()
	s.load(3*workers, func() {
		s.kill(v.PID, syscall.SIGKILL)
		v = s.restarted(v.PID)
		v = s.reload() // the main process is none that the manager has started
		s.settled()
		s.kill(v.PID, syscall.SIGKILL)
		v = s.restarted(v.PID)
		// A crash while the next one warms up: that goes with it.
		s.write("", "3s")
		reloaded := s.background("reload", unit)
		s.says("upgrading to generation 2, build v1: warming up")
		s.write("", "")
		s.kill(v.PID, syscall.SIGKILL)
		require.Error(s.t, reloaded())
		s.restarted(v.PID)
	})
}

func killDraining(s *stand) {
	v := s.fresh()
	s.load(workers, func() {
		a := s.slow(10 * time.Second)
		now := s.reload()
		s.says("serving, generation 2, build v1; generation 1 still drains")
		s.kill(v.PID, syscall.SIGKILL)
		_, err := a.answer()
		require.Error(s.t, err, "the killed one held it")
		require.Equal(s.t, now, s.settled())
		require.Equal(s.t, 3, s.reload().Generation)
		s.settled()
	})
}

func killComing(s *stand) {
	v := s.fresh()
	s.write("", "5s")
	s.load(0, func() {
		reloaded := s.background("reload", unit)
		s.says("upgrading to generation 2, build v1: warming up")
		for _, pid := range s.Processes(unit) {
			if pid != v.PID {
				s.kill(pid, syscall.SIGKILL)
			}
		}
		require.Error(s.t, reloaded())
		require.Equal(s.t, v, s.settled())
		require.Contains(s.t, s.status(), "; upgrade failed (start): the new process ended before it was ready: signal: killed")
		s.write("", "")
		require.Equal(s.t, 2, s.reload().Generation)
		s.settled()
	})
}

func killNewWhileDraining(s *stand) {
	s.fresh()
	s.load(workers, func() {
		a := s.slow(3 * time.Second)
		v := s.reload()
		s.kill(v.PID, syscall.SIGKILL)
		s.says("generation 2 has died, generation 1 drains before the service is started again")
		s.answered(a)
		s.restarted(v.PID)
	})
}

func watchdog(s *stand) {
	for _, tc := range []struct {
		name string
		hang func(s *stand, pid int)
		old  time.Duration // for so long the old generation drains
	}{
		{"handlers hang", func(s *stand, _ int) { ask(s.t, "/hang") }, 0},
		{"the loop hangs", func(s *stand, pid int) { s.kill(pid, syscall.SIGUSR1) }, 0},
		{"stopped", func(s *stand, pid int) { s.kill(pid, syscall.SIGSTOP) }, 14 * time.Second},
	} {
		s.t.Run(tc.name, func(t *testing.T) {
			s := s.in(t)
			s.fresh()
			if tc.old > 0 {
				s.slow(tc.old)
			}
			v := s.reload() // the pings are the new one's
			s.load(workers, func() {
				began := time.Now()
				tc.hang(s, v.PID)
				s.restarted(v.PID)
				require.Less(t, time.Since(began), 10*time.Second)
			})
			require.Equal(t, "1", s.Show(unit, "NRestarts"))
			require.Contains(t, s.Log(), "Watchdog timeout")
		})
	}
	// None was aborted for nothing, in all that went before.
	require.Equal(s.t, 3, strings.Count(s.Log(), "Watchdog timeout"))
}

// addressesChange restarts with other settings than the stored sockets are for.
func addressesChange(s *stand) {
	s.fresh()
	require.Equal(s.t, "1", s.Show(unit, "NFileDescriptorStore"))
	s.write("addr: [\"127.0.0.1:8080\", \"more=127.0.0.1:8081\"]\n", "")
	s.reload()
	s.settled()
	require.Equal(s.t, "2", s.Show(unit, "NFileDescriptorStore"), "one more")
	s.write("addr: [\"web=127.0.0.1:8080\"]\n", "")
	s.reload()
	s.settled()
	require.Equal(s.t, "1", s.Show(unit, "NFileDescriptorStore"), "one less, under another name")
	refused(s.t, "127.0.0.1:8081")

	v := s.settled()
	s.load(2*workers, func() {
		s.kill(v.PID, syscall.SIGKILL)
		s.restarted(v.PID)
	})
	s.write("addr: [\"web=127.0.0.2:8080\", \"http=127.0.0.1:8080\", \"gone=127.0.0.1:8082\"]\n", "")
	s.load(0, func() { s.Must("restart", unit) }) // the same address under another name
	require.Equal(s.t, "3", s.Show(unit, "NFileDescriptorStore"))
	s.write("addr: [\"http=0.0.0.0:8080\"]\n", "")
	s.Must("restart", unit)
	s.settled()
	require.Equal(s.t, "1", s.Show(unit, "NFileDescriptorStore"))
	refused(s.t, "127.0.0.1:8082")
	require.Contains(s.t, s.logs(), `"addr":"http=127.0.0.1:8080"`)
	require.Contains(s.t, s.logs(), "does not fit the settings any more: it is closed")
}

func refused(t *testing.T, addr string) {
	t.Helper()
	_, err := net.Dial("tcp", addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func unixSocket(s *stand) {
	s.fresh()
	path := filepath.Join(s.RuntimeDir(), "holdfast", "app.sock")
	s.write("addr: [\"127.0.0.1:8080\", \"local=unix:"+path+"\"]\n", "")
	s.reload()
	v := s.settled()
	r, err := load.New(load.Workload{Kind: load.Hello, Addr: load.Addr{Network: "unix", Address: path}, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond})
	require.NoError(s.t, err)
	r.Start(s.t.Context())
	defer r.Stop()
	s.kill(v.PID, syscall.SIGKILL)
	s.restarted(v.PID)
	s.Must("restart", unit)
	v = s.settled()
	n := r.Stop().Total()
	require.Zero(s.t, n.Failures[load.Refused])
	require.LessOrEqual(s.t, n.Failed(), int64(4))

	// Nobody could find one whose file is gone: it is bound anew.
	require.NoError(s.t, os.Remove(path))
	s.kill(v.PID, syscall.SIGKILL)
	s.restarted(v.PID)
	c, err := net.Dial("unix", path)
	require.NoError(s.t, err)
	require.NoError(s.t, c.Close())
	// One that is given up is removed with its file.
	s.write("", "")
	s.reload()
	s.settled()
	require.NoFileExists(s.t, path)
	require.Equal(s.t, "1", s.Show(unit, "NFileDescriptorStore"))
}

// socketUnit has a socket unit hold the socket: it is the one that is used, and nothing
// is stored.
func socketUnit(s *stand) {
	s.fresh()
	s.end()
	s.Must("start", "holdfast.socket")
	_, err := load.AskVersion(s.t.Context(), server) // starts the service
	require.NoError(s.t, err)
	v := s.settled()
	b, err := os.ReadFile(filepath.Join(s.Dir, "service.log"))
	require.NoError(s.t, err)
	require.Contains(s.t, string(b), `"addrs":["http=[::]:8080"]`, "not the configured address")
	s.load(workers, func() {
		s.reload()
		s.settled()
		s.Must("restart", unit)
		v = s.settled()
		s.kill(v.PID, syscall.SIGKILL)
		s.restarted(v.PID)
	})
	require.Equal(s.t, "0", s.Show(unit, "NFileDescriptorStore"))
}
