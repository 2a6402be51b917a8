package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

const (
	// waitTick is how often Wait looks. The state file changes hands between
	// processes and may be on any file system, so it is read, not watched.
	waitTick = 20 * time.Millisecond
	// signalAge is how old a request may be for Wait to take it for the one that was
	// made just before it was called: kill(1) has run and ended, this program has
	// started.
	signalAge = 2 * time.Second
	// signalGrace is how long a request that is already answered must stand
	// unchallenged: a later signal reaches the process well within it.
	signalGrace = 250 * time.Millisecond
	// requestTimeout is how long a signal may take to show as a request.
	requestTimeout = 10 * time.Second
)

// FailedError says that an upgrade failed and the old generation goes on.
type FailedError struct{ Outcome Outcome }

func (e *FailedError) Error() string {
	return fmt.Sprintf("the upgrade failed (phase %s): %s; pid %d goes on serving", e.Outcome.Phase, e.Outcome.Reason, e.Outcome.From)
}

// Wait waits for the fate of the upgrade that was requested, just before, by a
// signal to pid, and returns its outcome: the second half of "kill -USR2 pid".
// pid 0 stands for the one in the PID file. A failed upgrade is a [*FailedError];
// other errors say that nothing was requested, that the process died, or that ctx
// ended first. It tells what the processes say of themselves in the state file.
func Wait(ctx context.Context, pidFile string, pid int) (Outcome, error) {
	began := time.Now()
	if pid == 0 {
		var err error
		if pid, err = ReadPIDFile(pidFile); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return Outcome{}, fmt.Errorf("PID file %s does not exist: is the service running?", pidFile)
			}
			return Outcome{}, err
		}
		// It may name the successor already.
		if s, err := ReadStatus(pidFile); err == nil && s.Upgrade != nil && s.PID == pid &&
			s.Upgrade.Result == Succeeded && began.Sub(s.Upgrade.Ended) < signalAge {
			return *s.Upgrade, nil
		}
	}
	tick := time.NewTicker(waitTick)
	defer tick.Stop()
	var seen int
	var since time.Time
	for {
		alive := syscall.Kill(pid, 0) == nil || errors.Is(syscall.Kill(pid, 0), syscall.EPERM)
		s, err := ReadStatus(pidFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Outcome{}, err
		}
		if o := s.Upgrade; err == nil && o != nil && o.From == pid {
			switch {
			case o.Result == Succeeded:
				return *o, nil
			case o.Result == Failed && began.Sub(o.Requested) < signalAge:
				if o.Number != seen {
					seen, since = o.Number, time.Now()
				}
				if time.Since(since) >= signalGrace || o.Requested.After(began) {
					return *o, &FailedError{*o}
				}
			case o.Result == Running:
				since = time.Now()
			}
		}
		if !alive {
			return Outcome{}, fmt.Errorf("pid %d is gone and no successor has taken over: see its log", pid)
		}
		if since.IsZero() && time.Since(began) > requestTimeout && s.State != Starting.String() && !s.draining(pid) {
			return Outcome{}, fmt.Errorf("pid %d has not begun an upgrade within %s: was it asked for one (kill -USR2 %d)?", pid, requestTimeout, pid)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Outcome{}, fmt.Errorf("the upgrade of pid %d has not ended: %w", pid, context.Cause(ctx))
		}
	}
}

// draining tells whether pid serves while its predecessor still drains: a request
// then waits for that, which may take as long as the drain timeout.
func (s Status) draining(pid int) bool {
	if s.PID != pid || s.Upgrade == nil || s.Upgrade.Result != Succeeded || s.Upgrade.To != pid {
		return false
	}
	p, err := os.FindProcess(s.Upgrade.From)
	return err == nil && p.Signal(syscall.Signal(0)) == nil
}
