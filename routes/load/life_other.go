//go:build !linux

package load

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// life is a process that need not be our child. Without pidfd it is known by its
// pid alone, which the system may give to another one after its end.
type life struct{ pid int }

// holdLife returns nil and os.ErrProcessDone if there is no such process.
func holdLife(pid int) (*life, error) {
	l := &life{pid}
	if l.ended() {
		return nil, os.ErrProcessDone
	}
	return l, nil
}

// signal returns os.ErrProcessDone if the process has ended.
func (l *life) signal(sig syscall.Signal) error {
	if err := syscall.Kill(l.pid, sig); errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return err
	}
	return nil
}

func (l *life) ended() bool { return errors.Is(syscall.Kill(l.pid, 0), syscall.ESRCH) }

// wait returns when the process has ended, or with ctx's error. It polls.
func (l *life) wait(ctx context.Context) error {
	return poll(ctx, func() (bool, error) { return l.ended(), nil })
}

func (l *life) close() {}

// groupMembers tells by the group's own number that there are some.
func groupMembers(pgid int) []int {
	if errors.Is(syscall.Kill(-pgid, 0), syscall.ESRCH) {
		return nil
	}
	return []int{pgid}
}
