package upgrade

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/google/renameio/v2"
)

// pidFile is the PID file of a service and the lock that says that the service is
// alive. The lock is a flock(2) on a file of its own: the PID file is replaced at
// each upgrade, and a lock would go with its inode. The lock belongs to the open
// file description, which every generation inherits, so it lasts as long as one
// of them lives, however they die, and a pid that the kernel has given to someone
// else cannot be mistaken for it.
type pidFile struct {
	path    string
	lock    *os.File
	pending *renameio.PendingFile // prepared; nil: nothing is
}

func lockPath(path string) string  { return path + ".lock" }
func statePath(path string) string { return path + ".state" }

// openPIDFile takes the lock, or the one that the previous generation holds on
// the same path. It takes over inherited, which may be nil.
func openPIDFile(path string, inherited *os.File) (*pidFile, error) {
	if inherited != nil {
		if sameFile(inherited, lockPath(path)) {
			return &pidFile{path: path, lock: inherited}, nil
		}
		_ = inherited.Close() // the path has changed since
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("PID file %s: exists and is not a regular file: choose another path", path)
	}
	for {
		lock, err := os.OpenFile(lockPath(path), os.O_CREATE|os.O_RDWR, 0o600)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("PID file %s: the directory does not exist: create it (RuntimeDirectory= in the unit)", path)
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("PID file %s: its directory is not writable for this user", path)
		case err != nil:
			return nil, fmt.Errorf("PID file %s: %w", path, err)
		}
		switch err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EWOULDBLOCK):
			_ = lock.Close()
			pid := "unknown"
			if b, err := os.ReadFile(path); err == nil {
				pid = string(bytes.TrimSpace(b))
			}
			return nil, fmt.Errorf("PID file %s: a live service (pid %s) owns it: stop that, upgrade it with kill -USR2, or choose another path", path, pid)
		case err != nil:
			_ = lock.Close()
			return nil, fmt.Errorf("PID file %s: lock: %w", path, err)
		}
		// A service that was just stopping may have removed the file under us.
		if sameFile(lock, lockPath(path)) {
			return &pidFile{path: path, lock: lock}, nil
		}
		_ = lock.Close()
	}
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// prepare writes what the file is to hold beside its place, so that what can fail (a
// full disk) fails here, where an upgrade can still be called off.
func (f *pidFile) prepare() error {
	pending, err := pendingFile(f.path, []byte(strconv.Itoa(os.Getpid())+"\n"))
	if err == nil {
		err = pending.Sync()
	}
	if err != nil {
		return fmt.Errorf("upgrade: write PID file: %w", err)
	}
	f.discard()
	f.pending = pending
	return nil
}

// discard forgets what was prepared.
func (f *pidFile) discard() {
	if f.pending != nil {
		_ = f.pending.Cleanup()
		f.pending = nil
	}
}

// write makes the file name this process, atomically, mode 0644 whatever the
// umask: others read it. After prepare it is a rename.
func (f *pidFile) write() error {
	if f.pending == nil {
		if err := f.prepare(); err != nil {
			return err
		}
	}
	defer f.discard() // does nothing after the replacement
	if err := f.pending.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("upgrade: write PID file: %w", err)
	}
	return nil
}

// replaceFile writes a file of mode 0644 atomically, whatever the umask and
// whatever stood there. renameio.WriteFile would keep the old file's mode.
func replaceFile(path string, b []byte) error {
	f, err := pendingFile(path, b)
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // does nothing after the replacement
	return f.CloseAtomicallyReplace()
}

// pendingFile writes a file that is still to get its name. The caller replaces or
// cleans up.
func pendingFile(path string, b []byte) (*renameio.PendingFile, error) {
	f, err := renameio.NewPendingFile(path,
		renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(err, f.Cleanup())
	}
	return f, nil
}

// names tells whether the file names this process.
func (f *pidFile) names() bool {
	pid, err := ReadPIDFile(f.path)
	return err == nil && pid == os.Getpid()
}

// remove removes the files if they are still this process's; otherwise another
// generation has them.
func (f *pidFile) remove() {
	if f.names() {
		_ = os.Remove(statePath(f.path))
		_ = os.Remove(f.path)
		_ = os.Remove(lockPath(f.path))
	}
	_ = f.lock.Close()
}

// abandon is for a process that gives up before it has written the file: it
// leaves nothing that it made.
func (f *pidFile) abandon(inherited bool) {
	f.discard()
	if !inherited {
		_ = os.Remove(lockPath(f.path))
	}
	_ = f.lock.Close()
}

// ReadPIDFile reads the process id from a PID file.
func ReadPIDFile(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("PID file %s: does not hold a process id", path)
	}
	return pid, nil
}
