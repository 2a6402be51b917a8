//go:build integration && linux

package systemd_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// stand is the service under a manager, with a release that behaves on command.
type stand struct {
	*systemdtest.Manager
	t *testing.T
}

// dropIn is what the tests add to the unit that ships. The manager's own limits are
// shorter than what the service is allowed by its settings: see TestManagers.
const dropIn = `[Service]
Environment=HOLDFAST_MOOD=%[1]s/mood
TimeoutStartSec=3
TimeoutStopSec=3
WatchdogSec=3
StandardOutput=null
StandardError=append:%[1]s/service.log
`

// settings are the service's; drains and stops in the tests are waited for.
const settings = `addr: 127.0.0.1:8080
identify: true
drain-timeout: 15s
upgrade-timeout: 8s
warm-up-timeout: 6s
`

// moody builds the release once, under two names.
func moody(t *testing.T) (binaries [2]string) {
	t.Helper()
	if systemdtest.Inside() {
		return binaries
	}
	dir := t.TempDir()
	for i, name := range []string{"v1", "v2"} {
		binaries[i] = filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-ldflags", "-s -w -X main.build="+name, "-o", binaries[i], "./testdata/releases/moody")
		cmd.Dir = ".."
		b, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", b)
	}
	return binaries
}

// newStand enters a manager; nil outside of it.
func newStand(t *testing.T, mode systemdtest.Mode, binaries [2]string) *stand {
	t.Helper()
	m := systemdtest.EnterMode(t, mode, func(dir string) {
		inside := dir
		if mode == systemdtest.System {
			inside = "/run/holdfast-test"
			b, err := os.ReadFile(unit)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "units", unit), b, 0o644))
		} else {
			installUnit(t, dir)
		}
		b, err := os.ReadFile("holdfast.socket")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "units", "holdfast.socket"), b, 0o644))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "units", unit+".d"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "units", unit+".d", "test.conf"), fmt.Appendf(nil, dropIn, inside), 0o644))
		for i, name := range []string{"v1", "v2"} {
			b, err := os.ReadFile(binaries[i])
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o755))
		}
	})
	if m == nil {
		return nil
	}
	return &stand{m, t}
}

// in is the stand of a case.
func (s *stand) in(t *testing.T) *stand { return &stand{s.Manager, t} }

// root is what the unit calls /opt/holdfast, and config its file of settings.
func (s *stand) root() string {
	if s.Mode == systemdtest.System {
		return "/opt/holdfast"
	}
	return filepath.Join(s.Dir, "opt")
}

func (s *stand) config() string {
	if s.Mode == systemdtest.System {
		return "/etc/holdfast/config.yml"
	}
	return filepath.Join(s.Dir, "config.yml")
}

// release makes a file the one that the next generation runs, by a rename.
func (s *stand) release(name string) {
	s.t.Helper()
	current := filepath.Join(s.root(), "current")
	require.NoError(s.t, os.MkdirAll(current, 0o755))
	b, err := os.ReadFile(filepath.Join(s.Dir, name))
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(filepath.Join(current, "new"), b, 0o755))
	require.NoError(s.t, os.Rename(filepath.Join(current, "new"), filepath.Join(current, "holdfast")))
}

// write sets the settings of the next generation, and what its warm-up takes.
func (s *stand) write(more, mood string) {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(filepath.Dir(s.config()), 0o755))
	text := more
	for line := range strings.Lines(settings) {
		if key, _, _ := strings.Cut(line, ":"); !strings.HasPrefix(more, key+":") {
			text += line
		}
	}
	require.NoError(s.t, os.WriteFile(s.config(), []byte(text), 0o644))
	require.NoError(s.t, os.WriteFile(filepath.Join(s.Dir, "mood"), []byte(mood), 0o644))
}

// shut closes the gate, or opens it.
func (s *stand) shut(closed bool) {
	s.t.Helper()
	path := filepath.Join(s.Dir, "shut")
	if closed {
		require.NoError(s.t, os.WriteFile(path, nil, 0o644))
		return
	}
	require.NoError(s.t, os.RemoveAll(path))
}

// fresh is the service, first generation, with nothing left of what was before.
func (s *stand) fresh() load.Version {
	s.t.Helper()
	s.end()
	s.shut(false)
	s.write("", "")
	s.release("v1")
	s.Must("start", unit)
	v := s.settled()
	require.Equal(s.t, 1, v.Generation)
	return v
}

// end stops everything.
func (s *stand) end() {
	s.t.Helper()
	s.Must("stop", "holdfast.socket", unit)
	s.gone()
}

// gone checks that a stop has left nothing behind.
func (s *stand) gone() {
	s.t.Helper()
	require.Equal(s.t, "inactive", s.Show(unit, "ActiveState"))
	require.Empty(s.t, s.Processes(unit))
	require.NoFileExists(s.t, filepath.Join(s.RuntimeDir(), "holdfast", "holdfast.pid"))
}

// settled waits until no old generation is left, and checks that all agree on the one
// that serves.
func (s *stand) settled() load.Version {
	s.t.Helper()
	s.until("one process is left, the main one, and it serves", func() bool {
		main := s.Show(unit, "MainPID")
		pids := s.Processes(unit)
		return len(pids) == 1 && strconv.Itoa(pids[0]) == main &&
			s.Show(unit, "ActiveState") == "active" && strings.HasPrefix(s.status(), "serving, generation ")
	})
	v := agreed(s.t, s.Manager)
	require.Contains(s.t, s.status(), fmt.Sprintf("serving, generation %d, build %s", v.Generation, v.Build))
	return v
}

func (s *stand) status() string { s.t.Helper(); return s.Show(unit, "StatusText") }

// until waits for what systemd does of itself.
func (s *stand) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not within 20 s; status %q, processes %v\n%s", what, s.status(), s.Processes(unit), s.logs())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// says waits until the status contains all of texts.
func (s *stand) says(texts ...string) {
	s.t.Helper()
	s.until(fmt.Sprintf("the status says %q", texts), func() bool {
		status := s.status()
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(status, text) })
	})
}

// logs are what went on, for a failed test.
func (s *stand) logs() string {
	b, _ := os.ReadFile(filepath.Join(s.Dir, "service.log"))
	return tail(s.Log(), 3000) + "\n" + tail(string(b), 6000)
}

// reload upgrades, and wants it to succeed.
func (s *stand) reload() load.Version {
	s.t.Helper()
	out, err := s.Systemctl("reload", unit)
	require.NoError(s.t, err, "%s\n%s", out, s.logs())
	return agreed(s.t, s.Manager)
}

// background runs systemctl, and gives its end.
func (s *stand) background(args ...string) (wait func() error) {
	done := make(chan error, 1)
	go func() {
		out, err := s.Systemctl(args...)
		if err != nil {
			err = fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, out)
		}
		done <- err
	}()
	return func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return fmt.Errorf("systemctl %s: not done within 30 s", strings.Join(args, " "))
		}
	}
}

func (s *stand) kill(pid int, sig syscall.Signal) {
	s.t.Helper()
	require.NoError(s.t, syscall.Kill(pid, sig))
}

// slow has a request in flight that takes so long.
func (s *stand) slow(d time.Duration) asked {
	s.t.Helper()
	a := ask(s.t, fmt.Sprintf("/slow?ms=%d", d.Milliseconds()))
	s.until("the request has arrived", inFlight(s.t, a))
	return a
}

// answered checks that a slow request was.
func (s *stand) answered(a asked) {
	s.t.Helper()
	body, err := a.answer()
	require.NoError(s.t, err, s.logs())
	require.Equal(s.t, "slow", body)
}

// workers are the clients of a load: each has one request at a time.
const workers = 12

// load runs f under load and returns what became of the requests. Nobody may have been
// refused. lost is how many requests may have been, with the processes that held them.
func (s *stand) load(lost int64, f func()) {
	s.t.Helper()
	r, err := load.New(
		load.Workload{Name: "kept", Kind: load.Echo, Addr: server, Conns: workers / 2, Pause: 5 * time.Millisecond},
		load.Workload{Name: "new", Kind: load.Hello, Addr: server, Conns: workers / 2, NewConn: true, Pause: 5 * time.Millisecond},
	)
	require.NoError(s.t, err)
	r.Start(context.Background())
	defer r.Stop()
	s.until("the load flows", func() bool { return r.Snapshot().Total().Answered > workers })
	f()
	was := r.Snapshot().Total().Answered
	s.until("the load flows again", func() bool { return r.Snapshot().Total().Answered > was+workers })
	tally := r.Stop()
	n := tally.Total()
	s.t.Logf("sent %d, answered %d, failed %d %v, forced reconnects %d", n.Sent, n.Answered, n.Failed(), n.Failures, n.Reconnects)
	require.Zero(s.t, n.Failures[load.Refused], s.logs())
	if lost == 0 {
		require.NoError(s.t, tally.Err(), s.logs())
	}
	require.LessOrEqual(s.t, n.Failed(), lost, "%v\n%s", tally.Err(), s.logs())
}
