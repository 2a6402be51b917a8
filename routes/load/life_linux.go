package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// life is a process that need not be our child, held on to by a pidfd: its pid
// cannot come to mean another process.
type life struct {
	pid  int
	file *os.File // the pidfd; closed by close
}

// holdLife returns nil and os.ErrProcessDone if there is no such process.
func holdLife(pid int) (*life, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("load: pidfd of %d: %w", pid, err)
	}
	// Non-blocking, so that os gives it to the runtime's poller: readable means
	// that the process has ended (pidfd_open(2)).
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("load: pidfd of %d: %w", pid, err)
	}
	return &life{pid, os.NewFile(uintptr(fd), "pidfd")}, nil
}

// signal returns os.ErrProcessDone if the process has ended.
func (l *life) signal(sig syscall.Signal) error {
	err := l.control(func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

func (l *life) control(f func(fd int) error) error {
	rc, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := rc.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

// ended looks without waiting. A zombie has ended.
func (l *life) ended() bool {
	ended := false
	err := l.control(func(fd int) error {
		ended = readable(fd)
		return nil
	})
	return err == nil && ended
}

func readable(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0) //nolint:gosec // a descriptor
	return err == nil && n == 1
}

// wait returns when the process has ended, or with ctx's error. One caller at a time.
func (l *life) wait(ctx context.Context) error {
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	rc, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = rc.Read(func(fd uintptr) bool { return readable(int(fd)) })
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

func (l *life) close() { _ = l.file.Close() }

// groupMembers lists the processes of a process group that have not ended. It reads
// /proc, since kill(2) would count zombies that our init is slow to bury.
func groupMembers(pgid int) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // has just ended
		}
		// pid (comm) state ppid pgrp …, where comm may hold anything: proc_pid_stat(5).
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) < 3 || string(f[2]) != strconv.Itoa(pgid) || string(f[0]) == "Z" || string(f[0]) == "X" {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
