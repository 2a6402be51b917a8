//go:build integration

package systemd_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// deployCommand is the script as an operator would run it on the test's service.
func deployCommand(m *systemdtest.Manager, args ...string) *exec.Cmd {
	return exec.Command("./deploy.sh", append([]string{
		"--user", "--root", deployRoot(m),
		"--check-args", "--config " + filepath.Join(m.Dir, "config.yml"),
	}, args...)...)
}

func deployRoot(m *systemdtest.Manager) string { return filepath.Join(m.Dir, "opt") }

// deploy runs the script and returns its exit code, -1 if it was killed, and what it
// said.
func deploy(t *testing.T, m *systemdtest.Manager, args ...string) (int, string) {
	t.Helper()
	return ended(t, deployCommand(m, args...))
}

func ended(t *testing.T, cmd *exec.Cmd) (int, string) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode(), string(out)
	}
	require.NoError(t, err)
	return 0, string(out)
}

// mustDeploy deploys a release that is good, and checks that it serves.
func mustDeploy(t *testing.T, m *systemdtest.Manager, name string, args ...string) string {
	t.Helper()
	code, said := deploy(t, m, append(args, filepath.Join(m.Dir, name))...)
	require.Zero(t, code, said+m.Log())
	require.Equal(t, name, agreed(t, m).Build, said)
	tidy(t, m)
	return said
}

// current is the name of the release that the link points to.
func current(t *testing.T, m *systemdtest.Manager) string {
	t.Helper()
	to, err := os.Readlink(filepath.Join(deployRoot(m), "current"))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(deployRoot(m), to, "holdfast"))
	require.NoError(t, err, "the link points to a release")
	return filepath.Base(to)
}

// releases are the names of the installed ones.
func releases(t *testing.T, m *systemdtest.Manager) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(deployRoot(m), "releases"))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// noted is a field of the journal.
func noted(t *testing.T, m *systemdtest.Manager, key string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(deployRoot(m), ".deploy.state"))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// tidy checks that a run has left whole releases, a link to one, the journal of a run
// that came to its end, and nothing half done.
func tidy(t *testing.T, m *systemdtest.Manager) {
	t.Helper()
	entries, err := os.ReadDir(deployRoot(m))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{".deploy.lock", ".deploy.state", "current", "releases"}, names)
	for _, name := range releases(t, m) {
		require.NotRegexp(t, `^\.`, name)
		_, err := os.Stat(filepath.Join(deployRoot(m), "releases", name, "holdfast"))
		require.NoError(t, err)
	}
	require.Equal(t, "ended", noted(t, m, "step"))
	require.Equal(t, "releases/"+current(t, m), noted(t, m, "release"))
}

// tree lists everything below dir, with what a change would change.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		to, _ := os.Readlink(path)
		list = append(list, fmt.Sprint(path, " ", info.Mode(), " ", info.Size(), " ", info.ModTime().UnixNano(), " ", to))
		return nil
	}))
	return list
}

// buildUnready makes a release of which its check thinks well, unless mode is
// "check", and that never serves.
func buildUnready(t *testing.T, dir, mode string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", "-X main.mode="+mode, "-o", filepath.Join(dir, "unready-"+mode), "./testdata/releases/unready")
	cmd.Dir = ".."
	b, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", b)
}

func TestDeploy(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		build(t, dir, "v2")
		for _, mode := range []string{"check", "ends", "hangs"} {
			buildUnready(t, dir, mode)
		}
	})
	if m == nil {
		return
	}
	release := func(name string) string { return filepath.Join(m.Dir, name) }

	// The first release starts the service.
	said := mustDeploy(t, m, "v1")
	require.Contains(t, said, "start "+unit)
	v1 := current(t, m)

	underLoad(t, func() {
		said := mustDeploy(t, m, "v2")
		require.Contains(t, said, "reload "+unit)
		for _, step := range []string{`copy .* MiB \.\.\. \d+\.\d\d s\n`, `check `, `install releases/`, `point current to `, `reload .*\n.*\d s\n`} {
			require.Regexp(t, `deploy: `+step, said)
		}
		v := agreed(t, m)
		require.Equal(t, 2, v.Generation)
		v2 := current(t, m)

		for _, bad := range []struct {
			mode string
			code int
			says string
		}{
			{"check", 3, "no certificate"},
			{"ends", 1, "failed during 'reload'"},
			{"hangs", 1, "failed during 'reload'"},
		} {
			code, said := deploy(t, m, release("unready-"+bad.mode))
			require.Equal(t, bad.code, code, "%s: %s", bad.mode, said)
			require.Contains(t, said, bad.says, bad.mode)
			require.Equal(t, v2, current(t, m), "%s: the link", bad.mode)
			require.Equal(t, v, agreed(t, m), "%s: the served version", bad.mode)
			require.ElementsMatch(t, []string{v1, v2}, releases(t, m), "%s: the bad release is removed", bad.mode)
			require.Equal(t, "releases/"+v1, noted(t, m, "previous"))
			tidy(t, m)
		}

		// It serves, and is found bad: the previous one serves again.
		pidFile := filepath.Join(m.RuntimeDir(), "holdfast", "holdfast.pid")
		for _, how := range [][]string{
			{"--verify-command", `echo "judging $UNIT"; test -x "$PREVIOUS/holdfast" && "$RELEASE/holdfast" version && exit 7`},
			{"--verify-command", "sleep 60", "--verify-timeout", "1s"},
			{"--verify-for", "30s", "--pid-file", pidFile},
		} {
			rule(t, m, "goroutines <= 1") // no generation keeps that
			generation := agreed(t, m).Generation
			code, said := deploy(t, m, append(how, release("v1"))...)
			require.Equal(t, 6, code, said)
			require.Contains(t, said, "went live and failed; releases/"+v2+" is current and serves again")
			switch {
			case how[0] == "--verify-for":
				require.Contains(t, said, "the service is not well: the number of goroutines is ")
			case how[1] != "sleep 60":
				require.Contains(t, said, "judging "+unit+"\nholdfast v1 ")
			}
			v := agreed(t, m)
			require.Equal(t, "v2", v.Build)
			require.Equal(t, generation+2, v.Generation, "there and back")
			require.Equal(t, v2, current(t, m))
			require.ElementsMatch(t, []string{v1, v2}, releases(t, m))
			require.Equal(t, "releases/"+v1, noted(t, m, "previous"))
			tidy(t, m)
		}
		rule(t, m, "goroutines <= 100000")
		mustDeploy(t, m, "v1", "--verify-for", "1s", "--pid-file", pidFile, "--keep", "2")
		require.Len(t, releases(t, m), 2, "the last two are kept")
		require.NotContains(t, releases(t, m), v1)
		v1, v2 := current(t, m), v2

		// Back, and back from there, and by name.
		for _, to := range []struct {
			args        []string
			build, name string
		}{{nil, "v2", v2}, {nil, "v1", v1}, {[]string{v2}, "v2", v2}} {
			code, said := deploy(t, m, append([]string{"--rollback"}, to.args...)...)
			require.Zero(t, code, said)
			require.Equal(t, to.build, agreed(t, m).Build)
			require.Equal(t, to.name, current(t, m))
			tidy(t, m)
		}
		code, said := deploy(t, m, "--rollback", "--verify-command", "exit 1")
		require.Equal(t, 6, code, said)
		require.Equal(t, "v2", agreed(t, m).Build)
		require.ElementsMatch(t, []string{v1, v2}, releases(t, m), "an installed release is not removed by a failed return to it")
		for name, says := range map[string]string{v2: "is current already", "20010101T000000Z-0": "there is no release"} {
			code, said = deploy(t, m, "--rollback", name)
			require.Equal(t, 3, code, said)
			require.Contains(t, said, says)
		}
		tidy(t, m)

		code, said = deploy(t, m, "--list")
		require.Zero(t, code, said)
		require.Regexp(t, `(?m)^`+v1+` +\d+\.\d MiB  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC +previous$`, said)
		require.Regexp(t, `(?m)^`+v2+` +\d+\.\d MiB  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC +current serves$`, said)
		require.Equal(t, 2, strings.Count(said, "\n"), said)

		before, v := tree(t, m.Dir), agreed(t, m)
		// The service goes on: it logs, and reports on its last upgrade when that has drained.
		unchanged := func(b []string) []string {
			return slices.DeleteFunc(b, func(s string) bool {
				return strings.Contains(s, ".log ") || strings.HasPrefix(s, filepath.Join(m.Dir, "home", "holdfast"))
			})
		}
		for _, dry := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{release("v1")}, 0, "would install releases/"},
			{[]string{release("v1"), "--verify-command", "true"}, 0, "would verify with: true"},
			{[]string{release("v1"), "--root", release("none")}, 0, "(now: nothing)"},
			{[]string{release("unready-check")}, 3, "no certificate"},
			{[]string{"--rollback"}, 0, "would point current to releases/" + v1 + " (now: releases/" + v2 + ")"},
			{[]string{"--rollback", v2}, 3, "is current already"},
		} {
			code, said := deploy(t, m, append([]string{"--dry-run"}, dry.args...)...)
			require.Equal(t, dry.code, code, said)
			require.Contains(t, said, dry.says)
		}
		require.Equal(t, unchanged(before), unchanged(tree(t, m.Dir)))
		require.Equal(t, v, agreed(t, m))
	})

	// No previous release to go back to.
	m.Must("stop", unit)
	require.NoError(t, os.RemoveAll(deployRoot(m)))
	code, said := deploy(t, m, release("unready-ends"))
	require.Equal(t, 5, code, said)
	m.Systemctl("stop", unit) //nolint:errcheck // it may have given up by itself
	// That one is the previous one now, and does not keep a good one from serving.
	mustDeploy(t, m, "v1")
	m.Must("stop", unit)
}

// rule makes the next generations have one rule.
func rule(t *testing.T, m *systemdtest.Manager, text string) {
	t.Helper()
	path := filepath.Join(m.Dir, "config.yml")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	kept, _, _ := strings.Cut(string(b), "rule:")
	require.NoError(t, os.WriteFile(path, []byte(kept+"rule: "+text+"\n"), 0o600))
}
