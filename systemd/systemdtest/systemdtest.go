// Package systemdtest runs a test beside a private, real systemd.
//
// # Promise
//
// Nothing of the machine is touched: the manager is `systemd --user`, or `systemd
// --system` as process 1, in namespaces of its own, with its own units, cgroups and
// loopback network. The test runs in there, too, and ends with everything that it has
// started.
//
// # Limits
//
// Linux and root. The journal and D-Bus are missing; the manager's log is in
// [Manager.Log]. So are the controllers of its cgroups, and a system manager finds
// /proc/sys read-only. Where it cannot run, the test is skipped and says why; with
// HOLDFAST_REQUIRE_TOOLS set it fails instead.
package systemdtest

import (
	"bytes"
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed manager.sh
var script []byte

// insideEnv is set by the script in the test that runs beside the manager, to its directory.
const insideEnv = "HOLDFAST_SYSTEMDTEST_DIR"

// Manager is the private service manager, seen from beside it.
type Manager struct {
	t testing.TB
	// Dir is shared by the two runs of the test: what prepare has put there.
	Dir string
	// Mode is whose manager it is.
	Mode Mode
}

// Mode is whose manager runs.
type Mode string

// The modes. A system manager has users of its own, among them "holdfast", and an /etc
// and /opt that the test may write to.
const (
	User   Mode = "user"
	System Mode = "system"
)

// Enter runs the calling test a second time, beside a fresh manager of a user, and
// returns nil in the first run, which should return at once: it has then passed or
// failed as the second one did. In the first run prepare fills dir; units belong into
// dir/units. In the second run Enter returns the Manager.
func Enter(t *testing.T, prepare func(dir string)) *Manager {
	t.Helper()
	return EnterMode(t, User, prepare)
}

// EnterMode is Enter beside a manager of this mode. In there the working directory may
// be another one.
func EnterMode(t *testing.T, mode Mode, prepare func(dir string)) *Manager {
	t.Helper()
	if dir := os.Getenv(insideEnv); dir != "" {
		return &Manager{t: t, Dir: dir, Mode: mode}
	}
	if why := missing(); why != "" {
		if os.Getenv("HOLDFAST_REQUIRE_TOOLS") != "" {
			t.Fatal("no private systemd: " + why)
		}
		t.Skip("no private systemd: " + why)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "units"), 0o755); err != nil {
		t.Fatal(err)
	}
	prepare(dir)
	sh := filepath.Join(dir, "manager.sh")
	if err := os.WriteFile(sh, script, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", sh, string(mode), dir,
		self, "-test.run", pattern(t.Name()), "-test.v", "-test.timeout", "5m")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	t.Logf("beside the manager:\n%s", out.String())
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		log, _ := os.ReadFile(filepath.Join(dir, "manager.log"))
		t.Fatalf("beside the manager: %v; its log:\n%s", err, log)
	}
	return nil
}

// Inside tells whether this is the second run of a test.
func Inside() bool { return os.Getenv(insideEnv) != "" }

// pattern selects one test, or one subtest with all that it has.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// missing says what keeps a private manager from running here.
func missing() string {
	if os.Getuid() != 0 {
		return "it needs root"
	}
	for _, tool := range []string{"bash", "unshare", "systemctl", "ip", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed (Debian: systemd, util-linux, iproute2)"
		}
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		return "systemd is not installed"
	}
	return ""
}

// Systemctl runs systemctl and returns what it printed.
func (m *Manager) Systemctl(args ...string) (string, error) {
	out, err := exec.CommandContext(m.t.Context(), "systemctl", append([]string{"--" + string(m.Mode)}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Must is Systemctl that must succeed.
func (m *Manager) Must(args ...string) string {
	m.t.Helper()
	out, err := m.Systemctl(args...)
	if err != nil {
		m.t.Fatalf("systemctl %s: %v: %s\n%s", strings.Join(args, " "), err, out, m.Log())
	}
	return out
}

// Show is one property of a unit.
func (m *Manager) Show(unit, property string) string {
	m.t.Helper()
	return m.Must("show", "--value", "-p", property, unit)
}

// RuntimeDir is what %t stands for in a unit.
func (m *Manager) RuntimeDir() string {
	if m.Mode == System {
		return "/run"
	}
	return os.Getenv("XDG_RUNTIME_DIR")
}

// Processes are the pids of a unit's processes, those of later generations included.
func (m *Manager) Processes(unit string) []int {
	m.t.Helper()
	group := m.Show(unit, "ControlGroup")
	if group == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		m.t.Fatal(err)
	}
	var pids []int
	for _, word := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			m.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// Log is what the manager has logged.
func (m *Manager) Log() string {
	b, _ := os.ReadFile(filepath.Join(m.Dir, "manager.log"))
	return string(b)
}
