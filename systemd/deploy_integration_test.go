//go:build integration

package systemd_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// deploy runs the script as an operator would, and returns its exit code and what
// it said.
func deploy(t *testing.T, m *systemdtest.Manager, file string) (int, string) {
	t.Helper()
	cmd := exec.Command("./deploy.sh", "--user", "--root", filepath.Join(m.Dir, "opt"), "--keep", "5",
		"--check-args", "--config "+filepath.Join(m.Dir, "config.yml"), file)
	out, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return ee.ExitCode(), string(out)
	}
	require.NoError(t, err)
	return 0, string(out)
}

// releases are the names of the installed ones.
func releases(t *testing.T, m *systemdtest.Manager) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.Dir, "opt", "releases"))
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestDeploy(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		for _, name := range []string{"v1", "v2", "v3", "v4", "v5", "v6", "v7"} {
			build(t, dir, name)
		}
	})
	if m == nil {
		return
	}
	root := filepath.Join(m.Dir, "opt")
	release := func(name string) string { return filepath.Join(m.Dir, name) }
	current := func() string {
		to, err := os.Readlink(filepath.Join(root, "current"))
		require.NoError(t, err)
		return to
	}
	// clean checks that a run leaves releases and the link, and nothing half done.
	clean := func() {
		entries, err := os.ReadDir(root)
		require.NoError(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		require.Equal(t, []string{".deploy.lock", "current", "releases"}, names)
		for _, name := range releases(t, m) {
			require.NotContains(t, name, ".new")
			_, err := os.Stat(filepath.Join(root, "releases", name, "holdfast"))
			require.NoError(t, err)
		}
	}

	// The first release starts the service.
	code, said := deploy(t, m, release("v1"))
	require.Zero(t, code, said+m.Log())
	require.Equal(t, "v1", agreed(t, m).Build)
	clean()

	underLoad(t, func() {
		code, said := deploy(t, m, release("v2"))
		require.Zero(t, code, said)
		require.Contains(t, said, "reloading "+unit)
		v := agreed(t, m)
		require.Equal(t, "v2", v.Build)
		require.Equal(t, 2, v.Generation)
		good := current()
		clean()

		for _, bad := range []struct {
			name, text string
			code       int
			says       string
		}{
			{"fails check", `[ "$1" != check ] || { echo "holdfast: no certificate" >&2; exit 1; }`, 3, "no certificate"},
			{"fails to become ready", `[ "$1" = check ] && exit 0; echo no database >&2; exit 1`, 1, "putting "},
			{"hangs", `[ "$1" = check ] && exit 0; exec sleep 600`, 1, "putting "},
		} {
			code, said := deploy(t, m, script(t, filepath.Join(m.Dir, "bad"), bad.text))
			require.Equal(t, bad.code, code, "%s: %s", bad.name, said)
			require.Contains(t, said, bad.says, bad.name)
			require.Equal(t, good, current(), "%s: the link", bad.name)
			require.Equal(t, v, agreed(t, m), "%s: the served version", bad.name)
			require.Len(t, releases(t, m), 2, "%s: the bad release is removed", bad.name)
			clean()
		}

		for _, name := range []string{"v3", "v4", "v5", "v6", "v7"} {
			code, said := deploy(t, m, release(name))
			require.Zero(t, code, said)
			require.Equal(t, name, agreed(t, m).Build)
		}
		require.Len(t, releases(t, m), 5, "the last five are kept")
	})

	// What is refused touches nothing.
	before := current()
	empty := filepath.Join(m.Dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o755))
	for file, says := range map[string]string{
		filepath.Join(m.Dir, "none"):        "does not exist",
		empty:                               "is empty",
		filepath.Join(m.Dir, "config.yml"):  "is not executable",
		filepath.Join(m.Dir, "manager.log"): "is not executable",
	} {
		code, said := deploy(t, m, file)
		require.Equal(t, 3, code, said)
		require.Contains(t, said, says)
		require.Equal(t, 1, strings.Count(said, "\n"), said)
	}
	lock, err := os.Open(filepath.Join(root, ".deploy.lock"))
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	code, said = deploy(t, m, release("v1"))
	require.Equal(t, 4, code, said)
	require.NoError(t, lock.Close())
	require.Equal(t, before, current())
	clean()

	// No previous release to go back to.
	m.Must("stop", unit)
	require.NoError(t, os.RemoveAll(root))
	code, said = deploy(t, m, script(t, filepath.Join(m.Dir, "bad"), `[ "$1" = check ] && exit 0; exit 1`))
	require.Equal(t, 5, code, said)
	m.Systemctl("stop", unit) //nolint:errcheck // it may have given up by itself
}
