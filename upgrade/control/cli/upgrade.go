package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// lookTimeout bounds requests that are answered at once.
const lookTimeout = 10 * time.Second

// context ends with the signals that mean a command, and after a time.
func background(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	if timeout == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("no answer within "+timeout.String()))
	return ctx, func() { cancel(); stop() }
}

// Upgrade is the command that asks for an upgrade.
type Upgrade struct {
	settings.Client
	Wait    bool          `help:"Wait for the outcome." default:"true" negatable:""`
	Force   bool          `help:"Do not wait for the drain of a predecessor: it is cut within the service's --force-drain."`
	Timeout time.Duration `help:"Give up waiting after this time; the upgrade goes on." default:"5m"`
}

// FailedError is an upgrade that failed.
type FailedError struct{ Outcome report.Outcome }

func (e *FailedError) Error() string {
	o := e.Outcome
	s := fmt.Sprintf("the upgrade failed (phase %s): %s; pid %d goes on serving", o.Phase, o.Reason, o.From)
	if len(o.Stderr) > 0 {
		s += "\nthe last lines that the new process wrote:\n  " + strings.Join(o.Stderr, "\n  ")
	}
	return s
}

// Run asks, and tells the outcome.
func (u *Upgrade) Run(out io.Writer) error {
	c, err := u.Connect()
	if err != nil {
		return err
	}
	ctx, cancel := background(u.Timeout)
	defer cancel()
	if !u.Wait {
		s, err := c.Request(ctx, u.Force)
		if err == nil {
			_, err = fmt.Fprintf(out, "pid %d was asked for an upgrade\n", s.PID)
		}
		return err
	}
	asked, err := c.Status(ctx)
	if err != nil {
		return err
	}
	o, err := c.Upgrade(ctx, u.Force)
	if err != nil {
		return u.explain(ctx, err, asked)
	}
	if o.Result != report.Succeeded {
		return &FailedError{o}
	}
	_, err = fmt.Fprintln(out, o)
	return err
}

// explain says why there is no outcome.
func (u *Upgrade) explain(ctx context.Context, err error, asked report.Status) error {
	var refused *control.Error
	if errors.As(err, &refused) || errors.Is(err, control.ErrNoService) || ctx.Err() != nil {
		return fmt.Errorf("no upgrade to tell of: %w", err)
	}
	err = fmt.Errorf("pid %d, which was asked, has gone without an answer (%w)", asked.PID, err)
	list := u.left()
	for i := len(list) - 1; i >= 0; i-- {
		if o := list[i]; asked.Last == nil || o.Began.After(asked.Last.Began) {
			return fmt.Errorf("%w; the last word in its reports: %s", err, o)
		}
	}
	return fmt.Errorf("%w; its reports have nothing newer: see its log", err)
}

// left is the best that can be had of a service that is in trouble. It is not asked if
// it can be helped: a process that only holds the socket would not answer.
func (u *Upgrade) left() []report.Outcome {
	if path := u.ReportsFile(); path != "" {
		list, _ := report.Read(path) // of a damaged file, too
		return list
	}
	list, _ := reports(&u.Client)
	return list
}

// reports asks the service, or reads what it has left.
func reports(s *settings.Client) ([]report.Outcome, error) {
	c, err := s.Connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := background(lookTimeout)
	defer cancel()
	list, err := c.Reports(ctx)
	if path := s.ReportsFile(); err != nil && path != "" {
		left, rerr := report.Read(path)
		if len(left) > 0 {
			return left, nil
		}
		return nil, errors.Join(err, rerr)
	}
	return list, err
}
