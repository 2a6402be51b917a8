package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultProbeTimeout is when a probe that has no limits of its own is given up.
const DefaultProbeTimeout = 5 * time.Second

// maxReason bounds the reason of a failure, in bytes; it goes into one line of a log.
const maxReason = 300

// Probe is one question about the health of the process. It is asked again and
// again, by one caller at a time; copying it is not allowed.
type Probe struct {
	// Name is what reports call it. Default: its text form.
	Name string

	// Check is what is done: [HTTP], [TCP], [Exec] or [Func].
	Check Check

	// Within is the longest that an answer may take; a later one is a failure whose
	// reason says how long it took. Default 0: only Timeout counts.
	Within time.Duration

	// Timeout is when it is given up. Default: 5 seconds, or Within where that is
	// longer.
	Timeout time.Duration

	busy atomic.Bool // a check that was given up still runs
}

// Check is what a [Probe] does.
type Check interface {
	// String gives the text form, without the limits.
	String() string
	// check returns nil, or why it failed. self is the process's own handler.
	check(ctx context.Context, self http.Handler) error
	// obeys tells that check returns soon after its context has ended.
	obeys() bool
}

// String gives the name, or the text form, which [ParseProbe] reads.
func (p *Probe) String() string {
	if p.Name != "" {
		return p.Name
	}
	return p.text()
}

func (p *Probe) text() string {
	s := p.Check.String()
	if p.Within > 0 {
		s += " within=" + shortDuration(p.Within)
	}
	if p.Timeout > 0 {
		s += " timeout=" + shortDuration(p.Timeout)
	}
	return s
}

// Run asks once. It returns nil, or an error whose text is the reason in one line,
// without the probe's name. self is what HTTP probes without an address ask; the
// others do not use it. When ctx ends first, its cause is returned.
//
// A panic is a failure with the panic's text. A handler, or a [Func], that does not
// end with its context is left behind when the time is up: there is no way to end
// it. Until it has, the probe fails without asking again.
func (p *Probe) Run(ctx context.Context, self http.Handler) error {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = max(DefaultProbeTimeout, p.Within)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	err := p.ask(limited, self)
	took := time.Since(start)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil && limited.Err() != nil:
		return fmt.Errorf("no answer within %s", seconds(timeout))
	case err != nil:
		return oneLine(err)
	case p.Within > 0 && took > p.Within:
		return fmt.Errorf("took %s, more than the %s allowed", seconds(took), seconds(p.Within))
	}
	return nil
}

func (p *Probe) ask(ctx context.Context, self http.Handler) error {
	if p.Check.obeys() {
		return p.call(ctx, self)
	}
	if !p.busy.CompareAndSwap(false, true) {
		return errors.New("an earlier try, which was given up, still runs")
	}
	done := make(chan error, 1)
	go p.detached(ctx, self, done)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// detached carries a check out that may outlive its context.
func (p *Probe) detached(ctx context.Context, self http.Handler, done chan<- error) {
	err := errors.New("it ended its goroutine instead of answering")
	defer func() {
		p.busy.Store(false)
		done <- err
	}()
	err = p.call(ctx, self)
}

func (p *Probe) call(ctx context.Context, self http.Handler) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return p.Check.check(ctx, self)
}

// Func is a check that is a function. It should return soon after its context has
// ended.
type Func func(ctx context.Context) error

// String gives "function": give the [Probe] a Name.
func (Func) String() string { return "function" }

func (f Func) check(ctx context.Context, _ http.Handler) error { return f(ctx) }
func (Func) obeys() bool                                       { return false }

// oneLine makes a reason of an error that may be long and of many lines.
func oneLine(err error) error {
	s := err.Error()
	one := strings.Join(strings.Fields(s), " ")
	if len(one) > maxReason {
		one = strings.ToValidUTF8(one[:maxReason], "") + "…"
	}
	if one == s {
		return err
	}
	return errors.New(one)
}
