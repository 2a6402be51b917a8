package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Upgraded is one upgrade that was carried out.
type Upgraded struct {
	OldPID     int // may still be draining: see WaitGone
	PID        int
	Generation int
	Took       time.Duration // from the signal until the new generation served
}

// Upgrade sends SIGUSR2 to the process that the PID file names, and returns when the
// PID file names another one and that one answers GET /version as a later generation.
// It gives up when both the old process has ended and the PID file still names it, and
// after Command.UpgradeTimeout.
func (p *Process) Upgrade(ctx context.Context) (Upgraded, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.cmd.UpgradeTimeout, 30*time.Second))
	defer cancel()
	old, err := p.readPIDFile()
	if err != nil {
		return Upgraded{}, fmt.Errorf("load: upgrade: %w", err)
	}
	oldLife, err := p.hold(old)
	if err != nil {
		return Upgraded{}, fmt.Errorf("load: upgrade: process %d of the PID file: %w", old, err)
	}
	before := p.Version().Generation

	start := time.Now()
	if err := oldLife.signal(syscall.SIGUSR2); err != nil {
		return Upgraded{}, fmt.Errorf("load: upgrade: SIGUSR2 to %d: %w", old, err)
	}
	var last error
	var now Version
	err = poll(ctx, func() (bool, error) {
		gone := oldLife.ended() // asked for first, or the file could change in between
		pid, err := p.readPIDFile()
		if err != nil || pid == old {
			if gone {
				return false, fmt.Errorf("process %d has ended, and the PID file names no other: %w", old, errors.Join(err, os.ErrProcessDone))
			}
			return false, nil
		}
		if now, last = p.servesAs(ctx); last != nil {
			return false, nil //nolint:nilerr // not yet; last says why if it stays so
		}
		if now.Generation <= before {
			last = fmt.Errorf("process %d is generation %d after generation %d", now.PID, now.Generation, before)
		}
		return last == nil, nil
	})
	took := time.Since(start)
	if err != nil {
		return Upgraded{}, fmt.Errorf("load: upgrade of %d: %w; last words:\n%s",
			old, withCause(err, last), lastLines(p.LogPath()))
	}
	if _, err := p.hold(now.PID); err != nil {
		return Upgraded{}, fmt.Errorf("load: upgrade: process %d: %w", now.PID, err)
	}
	p.mu.Lock()
	p.now = now
	p.mu.Unlock()
	return Upgraded{OldPID: old, PID: now.PID, Generation: now.Generation, Took: took}, nil
}

// WaitGone waits until a generation that Start or Upgrade has named is gone.
func (p *Process) WaitGone(ctx context.Context, pid int) error {
	l := p.known(pid)
	if l == nil {
		return fmt.Errorf("load: wait for the end of %d: not a process of this server", pid)
	}
	if err := l.wait(ctx); err != nil {
		return fmt.Errorf("load: wait for the end of %d: %w", pid, err)
	}
	return nil
}

func (p *Process) known(pid int) *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.lives) - 1; i >= 0; i-- {
		if p.lives[i].pid == pid {
			return p.lives[i]
		}
	}
	return nil
}
