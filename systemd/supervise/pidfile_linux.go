package supervise

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// pidFile is the PID file as the service writes it: whole, and beside it a lock
// (PATH.lock, flock(2)) that is held for as long as one of its generations lives.
type pidFile struct {
	path string
	left fs.FileInfo // what lay there before the start; nil: nothing
}

func openPIDFile(path string) pidFile {
	left, err := os.Stat(path)
	if err != nil {
		left = nil
	}
	return pidFile{path, left}
}

// names is the process that the service has named since the start, 0 if none.
func (f pidFile) names() int {
	now, err := os.Stat(f.path)
	if err != nil || (f.left != nil && os.SameFile(now, f.left) && now.ModTime().Equal(f.left.ModTime())) {
		return 0
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || pid <= 0 || pid == os.Getpid() {
		return 0
	}
	return pid
}

// locked tells whether a generation lives. A service that is no Holdfast service has
// no lock.
func (f pidFile) locked() bool {
	lock, err := os.Open(f.path + ".lock")
	if err != nil {
		return false
	}
	defer func() { _ = lock.Close() }() // and with it the lock, if we have got it
	return errors.Is(syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
