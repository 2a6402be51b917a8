//go:build integration && linux

package systemd_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// killed has the script killed before its n-th command that changes something, or
// asks the service to: between two of them it makes no difference when it ends.
func killed(t *testing.T, m *systemdtest.Manager, n int) string {
	t.Helper()
	text := `unset BASH_ENV
set -T
_n=0
trap 'case $BASHPID:$BASH_COMMAND in
  "$$:mkdir "* | "$$:exec "* | "$$:flock "* | "$$:echo "*"1>&9" | "$$:cp "* | "$$:chmod "* | "$$:sync "* | "$$:mv "* | "$$:ln "* | "$$:rm "* | "$$:run "*)
    _n=$((_n + 1))
    [ $_n != ` + strconv.Itoa(n) + ` ] || { echo "killed before: $BASH_COMMAND"; kill -KILL $$; } ;;
esac' DEBUG
`
	path := filepath.Join(m.Dir, "killed.sh")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return "BASH_ENV=" + path
}

// sum is the checksum in the name of the current release.
func sum(t *testing.T, m *systemdtest.Manager) string {
	t.Helper()
	return strings.Split(current(t, m)+".", "-")[1][:12]
}

// repaired runs the script so that it does nothing but put things in order.
func repaired(t *testing.T, m *systemdtest.Manager) string {
	t.Helper()
	code, said := deploy(t, m, "--rollback", "20010101T000000Z-0")
	require.Equal(t, 3, code, said)
	tidy(t, m)
	return said
}

// TestDeployKilled kills the script everywhere, and wants the next run to find its way,
// and the clients to notice nothing of it.
func TestDeployKilled(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		build(t, dir, "v2")
	})
	if m == nil {
		return
	}
	release := func(name string) string { return filepath.Join(m.Dir, name) }
	other := map[string]string{"v1": "v2", "v2": "v1"}
	sums := map[string]string{}
	for _, name := range []string{"v1", "v2", "v1"} {
		mustDeploy(t, m, name)
		sums[name] = sum(t, m)
	}

	underLoad(t, func() {
		seen := map[string]int{}
		for n := 1; ; n++ {
			// All steps: a release is installed and verified, an old one is removed.
			old := agreed(t, m).Build
			cmd := deployCommand(m, "--keep", "1", "--verify-command", "true", release(other[old]))
			cmd.Env = append(os.Environ(), killed(t, m, n))
			code, was := ended(t, cmd)
			if code == 0 {
				t.Logf("killed at %d commands: %v", n-1, seen)
				break
			}
			require.Equal(t, -1, code, was)
			step, name := noted(t, m, "step"), strings.TrimPrefix(noted(t, m, "release"), "releases/")
			seen[step]++
			serves := agreed(t, m).Build
			require.Contains(t, []string{sums["v1"], sums["v2"]}, sum(t, m), was)

			// Not each time a whole deploy: the clients would be upgraded for minutes.
			var said string
			if seen[step]%4 == 1 {
				said = mustDeploy(t, m, other[serves])
			} else {
				said = repaired(t, m)
				require.Equal(t, sums[serves], sum(t, m), was+said)
				require.Equal(t, serves, agreed(t, m).Build, was+said)
			}
			what := was + said
			switch {
			case step == "ended":
				require.NotContains(t, said, "ended during", what)
			case serves == other[old]:
				require.Contains(t, []string{"reload", "verify"}, step, what)
				require.Contains(t, said, "ended during '"+step+"' of "+name, what)
				require.Contains(t, said, name+" serves and stays current; whether it is good was not yet known (before: ", what)
			default:
				require.NotEqual(t, "verify", step, what)
				require.Contains(t, said, "ended during '"+step+"' of "+name, what)
				require.Contains(t, said, " serves and is current; "+name+" is not", what)
				if seen[step]%4 != 1 { // the good one may have got its name, in the same second
					require.NotContains(t, releases(t, m), name, what)
				}
			}
		}
		for _, step := range []string{"ended", "install", "swap", "reload", "verify"} {
			require.NotZero(t, seen[step], "killed during %s: %v", step, seen)
		}
	})
	m.Must("stop", unit)
}

// saying is a running script and what it has said so far.
type saying struct {
	t    *testing.T
	cmd  *exec.Cmd
	text strings.Builder
	out  *os.File
}

func start(t *testing.T, cmd *exec.Cmd) *saying {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = w, w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	t.Cleanup(func() { _ = r.Close() })
	return &saying{t: t, cmd: cmd, out: r}
}

// until reads until the script has said text.
func (s *saying) until(text string) {
	s.t.Helper()
	require.NoError(s.t, s.out.SetReadDeadline(time.Now().Add(30*time.Second)))
	b := make([]byte, 4096)
	for !strings.Contains(s.text.String(), text) {
		n, err := s.out.Read(b)
		s.text.Write(b[:n])
		require.NoError(s.t, err, s.text.String())
	}
}

// signal ends the script by sig and returns its exit code and all that it said.
func (s *saying) signal(sig syscall.Signal) (int, string) {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(sig))
	_ = s.cmd.Wait()
	// What it has started may still have the pipe; what it said itself is in there.
	require.NoError(s.t, s.out.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	b, _ := io.ReadAll(s.out)
	return s.cmd.ProcessState.ExitCode(), s.text.String() + string(b)
}

// TestDeployEnded ends the script while it waits, and looks at what others find
// meanwhile.
func TestDeployEnded(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		build(t, dir, "v2")
		buildUnready(t, dir, "hangs")
	})
	if m == nil {
		return
	}
	release := func(name string) string { return filepath.Join(m.Dir, name) }
	mustDeploy(t, m, "v1")
	v1 := current(t, m)

	underLoad(t, func() {
		// In the middle of a reload that is going to fail: the next run waits for it.
		s := start(t, deployCommand(m, release("unready-hangs")))
		s.until("reload " + unit + " ...\n")
		eventually(t, m, "it is reloading", func() bool { return m.Show(unit, "ActiveState") == "reloading" })
		code, said := s.signal(syscall.SIGKILL)
		require.Equal(t, -1, code, said)
		require.NotEqual(t, v1, current(t, m))
		said = mustDeploy(t, m, "v2")
		require.Contains(t, said, "ended during 'reload' of ")
		require.Contains(t, said, v1+" serves and is current; ")
		require.Len(t, releases(t, m), 2)
		v2 := current(t, m)

		// In the middle of the verification, by a signal that asks and one that does not.
		// Others hear who is at it, and change nothing.
		for _, by := range []struct {
			sig  syscall.Signal
			code int
		}{{syscall.SIGTERM, 143}, {syscall.SIGKILL, -1}} {
			was, earlier := current(t, m), noted(t, m, "previous")
			s := start(t, deployCommand(m, "--keep", "2", "--verify-command", "echo judging; exec sleep 20", release("v1")))
			s.until("judging")
			for _, args := range [][]string{{release("v2")}, {"--dry-run", release("v2")}, {"--rollback"}} {
				code, said := deploy(t, m, args...)
				require.Equal(t, 4, code, said)
				require.Regexp(t, `another deploy is running: pid `+strconv.Itoa(s.cmd.Process.Pid)+`, since \d{4}-\d\d-\d\dT`, said)
			}
			code, said := deploy(t, m, "--list")
			require.Zero(t, code, said)
			require.Contains(t, said, "is at 'verify' of ")
			code, said = s.signal(by.sig)
			require.Equal(t, by.code, code, said)
			if by.sig == syscall.SIGKILL {
				said = repaired(t, m)
			}
			require.Contains(t, said, " serves and stays current; whether it is good was not yet known (before: "+was+")")
			require.Equal(t, "v1", agreed(t, m).Build)
			require.NotEqual(t, was, current(t, m))
			require.Equal(t, "releases/"+was, noted(t, m, "previous"), "what --rollback goes to; before: %s", earlier)
			tidy(t, m)
			code, said = deploy(t, m, "--rollback")
			require.Zero(t, code, said)
			require.Equal(t, was, current(t, m))
		}
		require.Equal(t, v2, current(t, m))

		// On the way back from a release that served and failed: the next run completes it.
		for _, on := range []string{"point \"$previous\"", "discard \"$release\""} {
			cmd := deployCommand(m, "--verify-command", "exit 1", release("v1"))
			cmd.Env = append(os.Environ(), before(t, m, strings.NewReplacer(`"`, `\"`, "$", `\$`).Replace(on), "kill -KILL $$"))
			code, said := ended(t, cmd)
			require.Equal(t, -1, code, said)
			require.Equal(t, "back", noted(t, m, "step"))
			said = repaired(t, m)
			require.Contains(t, said, "completing its return to "+v2)
			require.Equal(t, "v2", agreed(t, m).Build)
			require.Equal(t, v2, current(t, m))
		}
	})

	// Nobody reads what it says any more.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	cmd := deployCommand(m, release("v1"))
	cmd.Stdout, cmd.Stderr = w, w
	require.NoError(t, cmd.Run())
	require.NoError(t, w.Close())
	require.Equal(t, "v1", agreed(t, m).Build)
	tidy(t, m)

	// The service has been stopped since: what served before is current again.
	cmd = deployCommand(m, release("v2"))
	cmd.Env = append(os.Environ(), before(t, m, "journal reload", "kill -KILL $$"))
	was := current(t, m)
	code, said := ended(t, cmd)
	require.Equal(t, -1, code, said)
	require.NotEqual(t, was, current(t, m))
	m.Must("stop", unit)
	require.Contains(t, repaired(t, m), was+" served before and is current; ")
	require.Equal(t, was, current(t, m))

	// And if there was none, there is none.
	require.NoError(t, os.RemoveAll(deployRoot(m)))
	cmd = deployCommand(m, release("v1"))
	cmd.Env = append(os.Environ(), before(t, m, "journal reload", "kill -KILL $$"))
	code, said = ended(t, cmd)
	require.Equal(t, -1, code, said)
	code, said = deploy(t, m, "--rollback")
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "nothing serves, and nothing did before")
	require.Empty(t, releases(t, m))
	mustDeploy(t, m, "v1")
	m.Must("stop", unit)
}
