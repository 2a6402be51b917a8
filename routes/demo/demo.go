package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

const (
	stopTimeout = 15 * time.Second
	// goneTimeout bounds the wait for an old generation, after which the next upgrade
	// is asked for all the same: the server queues it.
	goneTimeout = 10 * time.Second
	// maxShown is how many lost requests the error describes.
	maxShown = 5
)

// Options are those of a demonstration; the zero value is the usual one.
type Options struct {
	Upgrades int           // default 5
	Between  time.Duration // load before, between and after upgrades; default 1.5 s
	Scale    int           // multiplies the number of connections; default 1, which is 32
	Binary   string        // the server; default this program
}

// Run demonstrates and reports to out, on one refreshed line if that is a terminal. It
// returns nil if every upgrade was carried out and every request answered. SIGINT,
// SIGTERM and SIGHUP, or the end of ctx, end it early; the error is then
// context.Canceled. If requests were lost it is load.ErrLost.
func Run(ctx context.Context, out io.Writer, opts Options) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	opts.Upgrades = cmp.Or(opts.Upgrades, 5)
	opts.Between = cmp.Or(opts.Between, 1500*time.Millisecond)
	opts.Scale = max(opts.Scale, 1)
	if opts.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("demo: find this program's own file: %w", err)
		}
		opts.Binary = self
	}
	dir, err := os.MkdirTemp("", "holdfast-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}

	d := &demonstration{opts: opts, dir: dir, screen: newScreen(out)}
	err = d.run(ctx)
	if err != nil && !errors.Is(err, errInterrupted) {
		return fmt.Errorf("demo: %w\nThe server's log is kept in %s", err, dir)
	}
	if rmErr := os.RemoveAll(dir); rmErr != nil {
		return errors.Join(err, fmt.Errorf("demo: %w", rmErr))
	}
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// demonstration is one run.
type demonstration struct {
	opts     Options
	dir      string
	screen   *screen
	server   *load.Process
	upgrades []upgrade
}

// upgrade is one that was carried out.
type upgrade struct {
	load.Upgraded
	gone time.Duration // from the signal until the old process was gone; 0: not seen
}

func (d *demonstration) run(ctx context.Context) (err error) {
	cmd := load.Serve(d.opts.Binary, d.dir, "127.0.0.1:0")
	cmd.Log = filepath.Join(d.dir, "server.log")
	cmd.Args = append(cmd.Args, "--log-file", cmd.Log)
	d.server, err = cmd.Start(ctx)
	if err != nil {
		return interrupted(ctx, err)
	}
	addr := d.server.Addr("http")
	runner, err := load.New(workloads(addr, d.opts.Scale)...)
	if err != nil {
		d.server.Kill()
		return err
	}
	v := d.server.Version()
	d.screen.line("A server listens on %s: generation %d, pid %d.", addr.Address, v.Generation, v.PID)
	d.screen.line("It is under load from %d connections and is now upgraded %d times, by kill -USR2.\n", connections(d.opts.Scale), d.opts.Upgrades)

	runner.Start(context.WithoutCancel(ctx)) // stopped below, once, and never cut
	meter := startMeter(d.screen, runner, d.server, d.opts.Upgrades)
	upErr := d.upgradeAll(ctx, runner, meter)
	meter.stop()
	tally := runner.Stop()
	stopErr := d.stopServer(ctx)

	if upErr != nil && ctx.Err() != nil {
		d.screen.line("\nInterrupted: %s.", verdict(tally.Total(), len(d.upgrades)))
		if tally.Total().Failed() > 0 {
			return errors.Join(lost(tally, len(d.upgrades)), stopErr)
		}
		return cmp.Or(stopErr, errInterrupted)
	}
	report(d.screen, tally, d.upgrades)
	return errors.Join(lost(tally, len(d.upgrades)), upErr, stopErr)
}

// upgradeAll is the load's timetable.
func (d *demonstration) upgradeAll(ctx context.Context, runner *load.Runner, meter *meter) error {
	if err := pause(ctx, d.opts.Between); err != nil {
		return err
	}
	for i := range d.opts.Upgrades {
		runner.SetPhase(load.During)
		meter.upgrading(i + 1)
		start := time.Now()
		up, err := d.server.Upgrade(ctx)
		if err != nil {
			return fmt.Errorf("upgrade %d of %d: %w", i+1, d.opts.Upgrades, err)
		}
		done := upgrade{Upgraded: up}
		goneCtx, cancel := context.WithTimeout(ctx, goneTimeout)
		err = d.server.WaitGone(goneCtx, up.OldPID)
		cancel()
		if err == nil {
			done.gone = time.Since(start)
		}
		d.upgrades = append(d.upgrades, done)
		runner.SetPhase(load.After)
		meter.upgraded()
		d.screen.line("upgrade %d of %d: generation %d, pid %d, serves after %s%s", i+1, d.opts.Upgrades,
			up.Generation, up.PID, short(up.Took), goneText(done))
		if err := pause(ctx, d.opts.Between); err != nil {
			return err
		}
	}
	return nil
}

// stopServer gives it its time even when ctx has ended.
func (d *demonstration) stopServer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return d.server.Stop(ctx)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}

// interrupted makes one error of whatever the end of ctx has led to.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

var errInterrupted error = interruptedError{}

// interruptedError is context.Canceled in the words of a person.
type interruptedError struct{}

func (interruptedError) Error() string        { return "interrupted" }
func (interruptedError) Is(target error) bool { return target == context.Canceled }

// lost is nil, or how many requests were lost, and the first few of them.
func lost(tally load.Tally, upgrades int) error {
	err := tally.Err()
	if !errors.Is(err, load.ErrLost) {
		return err
	}
	text := verdict(tally.Total(), upgrades)
	shown := 0
	for _, e := range tally.Examples {
		if e.What != load.Reconnect && shown < maxShown {
			text += "\n  " + e.String()
			shown++
		}
	}
	return &lostError{text}
}

// lostError is load.ErrLost in the words of the report.
type lostError struct{ text string }

func (e *lostError) Error() string        { return e.text }
func (e *lostError) Is(target error) bool { return target == load.ErrLost }
