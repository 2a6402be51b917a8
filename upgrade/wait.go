package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

const (
	// waitTick is how often Wait looks. The state file changes hands between
	// processes and may be on any file system, so it is read, not watched.
	waitTick = 20 * time.Millisecond
	// signalAge is how old a request, or its success, may be for Wait to take it for the
	// one that was made just before it was called. On a busy machine the caller may be
	// slow to come; that it does not take an earlier one for it, signalGrace sees to.
	signalAge = 30 * time.Second
	// signalGrace is how long an outcome that was there before the caller must stand
	// unchallenged: the signal that the caller means shows as a request well within it.
	signalGrace = 500 * time.Millisecond
	// requestTimeout is how long a signal may take to show as a request.
	requestTimeout = 10 * time.Second
)

// FailedError says that an upgrade failed and the old generation goes on.
type FailedError struct{ Outcome Outcome }

func (e *FailedError) Error() string {
	return fmt.Sprintf("the upgrade failed (phase %s): %s; pid %d goes on serving", e.Outcome.Phase, e.Outcome.Reason, e.Outcome.From)
}

// Wait waits for the fate of the upgrade that was requested, just before, by a
// signal to pid, and returns its outcome: the second half of "kill -USR2 pid". pid
// may also be that of the successor, if the upgrade was faster than the caller; 0
// stands for the one in the PID file. A failed upgrade is a [*FailedError]; other errors
// say that nothing was requested, that the process died, or that ctx ended first. It
// tells what the processes say of themselves in the state file.
func Wait(ctx context.Context, pidFile string, pid int) (Outcome, error) {
	w := waiter{began: time.Now(), pid: pid}
	if pid == 0 {
		var err error
		if w.pid, err = ReadPIDFile(pidFile); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return Outcome{}, fmt.Errorf("PID file %s does not exist: is the service running?", pidFile)
			}
			return Outcome{}, err
		}
	}
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	for {
		alive := isAlive(w.pid) // looked at first: what it leaves in the file is its last word
		s, err := ReadStatus(pidFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Outcome{}, err
		}
		if err == nil && w.settled(s) {
			if s.Upgrade.Result == Failed {
				return *s.Upgrade, &FailedError{*s.Upgrade}
			}
			return *s.Upgrade, nil
		}
		if !alive {
			return Outcome{}, fmt.Errorf("pid %d is gone and no successor has taken over: see its log", w.pid)
		}
		if !w.asked && time.Since(w.began) > requestTimeout {
			return Outcome{}, fmt.Errorf("pid %d has not begun an upgrade within %s: was it asked for one (kill -USR2 %d)?", w.pid, requestTimeout, w.pid)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("the upgrade of pid %d has not ended: %w", w.pid, context.Cause(ctx))
		}
	}
}

// waiter judges one status after the other.
type waiter struct {
	began time.Time
	pid   int
	asked bool      // a request has shown
	seen  int       // number of the outcome that may be ours
	since time.Time // when it was first seen
}

// settled tells whether the status holds the outcome that is waited for.
func (w *waiter) settled(s Status) bool {
	o := s.Upgrade
	if s.PID == w.pid && (s.Queued || s.State == Starting.String()) || o != nil && o.From == w.pid && o.Result == Running {
		w.asked = true
		return false
	}
	if o == nil {
		return false
	}
	switch {
	case o.From == w.pid && o.Result == Succeeded:
		return true
	case o.From == w.pid && o.Result == Failed && w.began.Sub(o.Requested) < signalAge,
		o.To == w.pid && o.Result == Succeeded && w.began.Sub(o.Ended) < signalAge:
		// Ours, or that of an earlier request. A later signal shows soon.
		w.asked = true
		if o.Number != w.seen {
			w.seen, w.since = o.Number, time.Now()
		}
		return o.Requested.After(w.began) || time.Since(w.since) >= signalGrace
	}
	return false
}

func isAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
