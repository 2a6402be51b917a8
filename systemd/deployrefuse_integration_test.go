//go:build integration && linux

package systemd_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

// before has the script run a shell command before the first of its own that begins
// with on: it is what bash offers to look into a script that knows nothing of it.
func before(t *testing.T, m *systemdtest.Manager, on, do string) string {
	t.Helper()
	text := "unset BASH_ENV; set -T; _done=\ntrap 'case $BASHPID:$BASH_COMMAND in \"$$:" + on + "\"*) [ -n \"$_done\" ] || { _done=1; " + do + " || :; } ;; esac' DEBUG\n"
	path := filepath.Join(m.Dir, "before.sh")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return "BASH_ENV=" + path
}

// TestDeployRefused is about what must not touch the service, and about a file system
// that does not take what is written to it. The releases are on one of their own.
func TestDeployRefused(t *testing.T) {
	m := systemdtest.Enter(t, func(dir string) {
		installUnit(t, dir)
		build(t, dir, "v1")
		buildUnready(t, dir, "check")
	})
	if m == nil {
		return
	}
	release := func(name string) string { return filepath.Join(m.Dir, name) }
	root := deployRoot(m)
	v1, err := os.ReadFile(release("v1"))
	require.NoError(t, err)
	size := len(v1)
	require.NoError(t, os.Mkdir(root, 0o755))
	require.NoError(t, syscall.Mount("tmpfs", root, "tmpfs", 0, "mode=755,size="+strconv.Itoa(5*size/2)))
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })

	sum := sha256.Sum256(v1)
	right := hex.EncodeToString(sum[:])
	mustDeploy(t, m, "v1", "--sha256", strings.ToUpper(right))
	serves, v := current(t, m), agreed(t, m)
	untouched := func(what string) {
		t.Helper()
		require.Equal(t, serves, current(t, m), what)
		require.Equal(t, []string{serves}, releases(t, m), what)
		require.Equal(t, v, agreed(t, m), what)
		tidy(t, m)
	}

	write := func(name string, b []byte) string {
		require.NoError(t, os.WriteFile(release(name), b, 0o755))
		return release(name)
	}
	foreign := bytes.Clone(v1)
	name := "arm64"
	copy(foreign[18:], []byte{0xb7, 0}) // e_machine, elf(5)
	if runtime.GOARCH == name {
		name = "amd64"
		copy(foreign[18:], []byte{0x3e, 0})
	}
	require.NoError(t, os.Mkdir(release("folder"), 0o755))
	for _, c := range []struct {
		args  []string
		says  string
		lines int
	}{
		{[]string{release("none")}, "does not exist", 1},
		{[]string{release("folder")}, "is not a file", 1},
		{[]string{write("empty", nil)}, "is empty", 1},
		{[]string{release("config.yml")}, "is not executable", 1},
		{[]string{write("short", v1[:100_000])}, "has 100000 bytes, a binary has at least 1048576", 1},
		{[]string{"--min-size", strconv.Itoa(size + 1), release("v1")}, "--min-size", 1},
		{[]string{write("text", bytes.Repeat([]byte("text\n"), 300_000))}, "is not a program for Linux", 2},
		{[]string{write("foreign", foreign)}, "is for " + name + ", this machine is " + runtime.GOARCH, 2},
		{[]string{write("half", v1[:size/2])}, "cannot run here", 3},
		// The sum comes before the check: what is not what it should be is not run.
		{[]string{"--sha256", right, release("unready-check")}, "has the SHA-256", 2},
		{[]string{release("unready-check")}, "no certificate", 3},
		{[]string{"--rollback"}, "no previous release is known", 1},
	} {
		code, said := deploy(t, m, c.args...)
		require.Equal(t, 3, code, "%s: %s", c.args, said)
		require.Contains(t, said, c.says, c.args)
		require.Equal(t, c.lines, strings.Count(said, "\n"), said)
		untouched(said)
	}
	for _, args := range [][]string{
		{},
		{"a", "b"},
		{"--keep", "0", "x"},
		{"--keep"},
		{"--sha256", "abc", "x"},
		{"--timeout", "0", "x"},
		{"--min-size", "1M", "x"},
		{"--list", "x"},
		{"--list", "--rollback"},
		{"--rollback", "../x"},
		{"--frobnicate", "x"},
	} {
		code, said := deploy(t, m, args...)
		require.Equal(t, 2, code, "%s: %s", args, said)
		require.Equal(t, 1, strings.Count(said, "\n"), said)
	}

	// Too little room: known beforehand, or while the copy is written, or later.
	filler := filepath.Join(root, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, size), 0o600))
	code, said := deploy(t, m, release("v1"))
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "make room")
	require.NoError(t, os.Remove(filler))
	untouched("no room for a copy")

	cmd := deployCommand(m, release("v1"))
	cmd.Env = append(os.Environ(), before(t, m, "cp ", "head -c "+strconv.Itoa(size)+" /dev/zero >"+filler))
	code, said = ended(t, cmd)
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "No space left on device")
	require.NoError(t, os.Remove(filler))
	untouched("full in the middle of the copy")

	cmd = deployCommand(m, release("v1"))
	cmd.Env = append(os.Environ(), before(t, m, "journal reload", "cat /dev/zero >"+filler+" 2>/dev/null"))
	code, said = ended(t, cmd)
	require.Equal(t, 1, code, said)
	require.Contains(t, said, "failed during 'reload'")
	require.NoError(t, os.Remove(filler))
	untouched("full after the swap")

	require.NoError(t, syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	code, said = deploy(t, m, release("v1"))
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "is the file system read-only")
	require.Equal(t, 1, strings.Count(said, "\n"), said)
	for _, args := range [][]string{{"--list"}, {"--dry-run", release("v1")}} {
		code, said = deploy(t, m, args...)
		require.Zero(t, code, said)
	}
	require.NoError(t, syscall.Mount("", root, "", syscall.MS_REMOUNT, ""))
	untouched("read-only")

	// A run that was killed has left a command behind, which has the lock.
	link := filepath.Join(root, "current")
	lock, err := os.Open(filepath.Join(root, ".deploy.lock"))
	require.NoError(t, err)
	require.NoError(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	code, said = deploy(t, m, release("v1"))
	require.Equal(t, 4, code, said)
	require.Regexp(t, `another deploy is running: pid \d+, which is gone; a command of it still runs, since \d{4}-`, said)
	require.NoError(t, lock.Close())

	// A folder in the link's place, and a link that leads nowhere.
	require.NoError(t, os.Rename(link, link+"-away"))
	require.NoError(t, os.Mkdir(link, 0o755))
	code, said = deploy(t, m, release("v1"))
	require.Equal(t, 3, code, said)
	require.Contains(t, said, "is not a symlink")
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Rename(link+"-away", link))
	untouched("not a symlink")
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink("releases/none", link))
	mustDeploy(t, m, "v1")
	m.Must("stop", unit)
}
