package upgrade

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	require.NoError(t, os.WriteFile(path, []byte("999999\n"), 0o600), "left by a dead process")

	old := syscall.Umask(0o077) // as a hardened unit has it
	f, err := openPIDFile(path, nil)
	require.NoError(t, err)
	require.False(t, f.names())
	require.NoError(t, f.write())
	syscall.Umask(old)
	require.True(t, f.names())
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o644), fi.Mode().Perm())

	_, err = openPIDFile(path, nil)
	require.ErrorContains(t, err, "a live service (pid "+strconv.Itoa(os.Getpid())+") owns it")

	f.remove()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is left")
}

func TestPIDFileOfAnotherGenerationStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	f, err := openPIDFile(path, nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o644))
	f.remove()
	pid, err := ReadPIDFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, pid)
}

func TestPIDFileLockIsInherited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.pid")
	parent, err := openPIDFile(path, nil)
	require.NoError(t, err)
	fd, err := syscall.Dup(int(parent.lock.Fd()))
	require.NoError(t, err)
	child, err := openPIDFile(path, os.NewFile(uintptr(fd), "lock"))
	require.NoError(t, err)
	require.NoError(t, parent.lock.Close())
	_, err = openPIDFile(path, nil)
	require.ErrorContains(t, err, "a live service", "the lock outlives the parent")

	// A generation with another path takes a lock of its own.
	fd, err = syscall.Dup(int(child.lock.Fd()))
	require.NoError(t, err)
	moved, err := openPIDFile(path+"2", os.NewFile(uintptr(fd), "lock"))
	require.NoError(t, err)
	require.True(t, sameFile(moved.lock, lockPath(path+"2")))
	moved.abandon(false)
	child.abandon(false)
}

func TestPIDFileBadPaths(t *testing.T) {
	dir := t.TempDir()
	_, err := openPIDFile(dir, nil)
	require.ErrorContains(t, err, "not a regular file")
	_, err = openPIDFile(filepath.Join(dir, "no", "app.pid"), nil)
	require.ErrorContains(t, err, "the directory does not exist")

	path := filepath.Join(dir, "app.pid")
	for _, content := range []string{"", "x", "-1", "0"} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err = ReadPIDFile(path)
		require.ErrorContains(t, err, "does not hold a process id", content)
	}
}
