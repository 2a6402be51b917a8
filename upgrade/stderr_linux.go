package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stderrPipe makes the pipe: our end, the new process's, and its name.
func stderrPipe() (from, inherit *os.File, id string, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, "", fmt.Errorf("upgrade: make a pipe: %w", err)
	}
	defer func() { _ = unix.Close(fds[1]) }()
	// Opened anew, for both directions (fifo(7)): whoever holds it has a reader. Not by
	// os.OpenFile, which would make it non-blocking for whoever inherits it.
	both, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fds[1]), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		if id, err = pipeID(both); err != nil {
			_ = unix.Close(both)
		}
	}
	if err == nil {
		if err = unix.SetNonblock(fds[0], true); err != nil {
			_ = unix.Close(both)
		}
	}
	if err != nil {
		_ = unix.Close(fds[0])
		return nil, nil, "", fmt.Errorf("upgrade: open the pipe anew: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "stderr"), os.NewFile(uintptr(both), stderrFile), id, nil
}

// pipeID names a pipe among all of this machine.
func pipeID(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return "", unix.ENOTSUP
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}

// readNow reads what is there, without waiting; 0 when that is nothing.
func readNow(f *os.File, b []byte) (n int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := rc.Control(func(fd uintptr) { n, err = unix.Read(int(fd), b) })
	if cerr != nil {
		return 0, cerr
	}
	return n, err
}

// This is the new process's half. There is one standard error in a process.
var stderrTaken struct {
	take, restore sync.Once
	own           int // what was there before; -1: nothing was taken
	pipe          int
}

// CaptureStderr lets the previous generation quote what this process writes to its
// standard error from here until the commit. [New] calls it; a main that wants more
// of what is written before that quoted, complaints about its settings for example,
// calls it first of all. In a process that is no new generation it does nothing.
//
// What asks whether standard error is a terminal must do so before: meanwhile it is a
// pipe. A process that is started meanwhile and inherits it goes on writing there, and
// what it writes after the commit is lost.
func CaptureStderr() {
	stderrTaken.take.Do(func() {
		stderrTaken.own = -1
		id := os.Getenv(stderrEnv)
		_ = os.Unsetenv(stderrEnv)
		fd, ok := findPipe(id)
		if !ok {
			return
		}
		own, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return
		}
		pipe, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil || unix.Dup3(fd, 2, 0) != nil {
			_ = unix.Close(own)
			if err == nil {
				_ = unix.Close(pipe)
			}
			return
		}
		stderrTaken.own, stderrTaken.pipe = own, pipe
	})
}

// findPipe finds the inherited pipe of this name.
func findPipe(id string) (int, bool) {
	if id == "" {
		return 0, false
	}
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	for _, n := range names {
		fd, err := strconv.Atoi(filepath.Base(n.Name()))
		if err != nil || fd < 3 {
			continue
		}
		if got, err := pipeID(fd); err == nil && got == id {
			return fd, true
		}
	}
	return 0, false
}

const (
	// stderrQuiet is how long the new process waits at the commit until the old one has
	// copied what is in the pipe, so that its lines stay in order.
	stderrQuiet = 100 * time.Millisecond
	// stderrRest is how long it waits for its own writers after the death of the old one.
	stderrRest = 50 * time.Millisecond
)

// restoreStderr puts the own standard error back. If the reader is gone, what is in
// the pipe is copied there.
func restoreStderr(readerGone bool) {
	stderrTaken.restore.Do(func() {
		t := &stderrTaken
		if t.own < 0 {
			return
		}
		defer func() { _, _ = unix.Close(t.own), unix.Close(t.pipe) }()
		for until := time.Now().Add(stderrQuiet); !readerGone && time.Now().Before(until); time.Sleep(time.Millisecond) {
			if n, err := unix.IoctlGetInt(t.pipe, unix.TIOCINQ); n == 0 || err != nil {
				break
			}
		}
		if err := unix.Dup3(t.own, 2, 0); err != nil || !readerGone {
			return
		}
		buf := make([]byte, 32<<10)
		for {
			// A thread that waits for room in the pipe gets it by this, and writes on.
			p := []unix.PollFd{{Fd: int32(t.pipe), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, int(stderrRest.Milliseconds())); err == unix.EINTR {
				continue
			} else if n <= 0 {
				return
			}
			n, err := unix.Read(t.pipe, buf)
			if n <= 0 || err != nil {
				return
			}
			_, _ = unix.Write(2, buf[:n])
		}
	})
}
