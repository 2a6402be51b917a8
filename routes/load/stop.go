package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

const (
	// killWait bounds the wait for processes that were sent SIGKILL.
	killWait = 5 * time.Second
	// strayWait is how long after the generations what they started may live.
	strayWait = time.Second
)

// Stop sends SIGTERM to every generation that is known to live and waits for their
// end, and for the end of everything that they started. When ctx ends first, they are
// killed, and Stop fails; so it does if a process is left that was not told to stop,
// or if the first generation exited with another status than 0. Afterwards, or after
// Kill, Stop does nothing.
func (p *Process) Stop(ctx context.Context) error {
	if p.released() {
		return nil
	}
	// The one that the PID file names may be one that no Upgrade has seen.
	if pid, err := p.readPIDFile(); err == nil && slices.Contains(groupMembers(p.child.Process.Pid), pid) {
		_, _ = p.hold(pid)
	}
	var errs []error
	lives := p.all()
	for _, l := range lives {
		if err := l.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("load: SIGTERM to %d: %w", l.pid, err))
		}
	}
	for _, l := range lives {
		if err := l.wait(ctx); err != nil {
			errs = append(errs, fmt.Errorf("load: wait for the end of %d: %w", l.pid, err))
		}
	}
	if left := p.strays(ctx); len(left) > 0 {
		errs = append(errs, fmt.Errorf("load: processes %d were left behind, and are killed", left))
	}
	p.Kill()
	if p.status != nil {
		errs = append(errs, fmt.Errorf("load: the first generation: %w; last words:\n%s", p.status, lastLines(p.stderr)))
	}
	return errors.Join(errs...)
}

// strays lists what is still there when every known generation has ended.
func (p *Process) strays(ctx context.Context) (left []int) {
	ctx, cancel := context.WithTimeout(ctx, strayWait)
	defer cancel()
	_ = poll(ctx, func() (bool, error) {
		left = groupMembers(p.child.Process.Pid)
		return len(left) == 0, nil
	})
	return left
}

// Kill ends every generation at once and waits for that, 5 s at most. It may be
// called at any time, and more than once.
func (p *Process) Kill() {
	if p.released() {
		return
	}
	group := p.child.Process.Pid
	// The number is the group's as long as it has members.
	if len(groupMembers(group)) > 0 {
		_ = syscall.Kill(-group, syscall.SIGKILL)
	}
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	<-p.exited
	_ = poll(ctx, func() (bool, error) { return len(groupMembers(group)) == 0, nil })
	p.release()
}

func (p *Process) all() []*life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lives)
}

func (p *Process) released() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives == nil
}

func (p *Process) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lives {
		l.close()
	}
	p.lives = nil
}
