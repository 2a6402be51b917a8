package upgrade

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/report"
)

// What the service manager hears while something takes its time: a line that a person
// reads in its status, and that it has to wait. There is one narrator at a time: of an
// upgrade the new generation from its first phase on, of everything else the one that
// serves. An old generation that drains says nothing of itself; its successor does.

const (
	// narrateEvery is how often the manager hears of it.
	narrateEvery = time.Second
	// waitAhead is for how long it is asked to wait each time. It is short, for the
	// watchdog waits as long: a process that does not say so again has come to harm.
	waitAhead = 15 * time.Second
	// waitAfter is what the end of a phase may take beyond its own bound.
	waitAfter = 5 * time.Second
)

// narration is one phase of a generation that does not serve yet.
type narration struct {
	detail atomic.Pointer[string]
	end    func()
}

// narrate tells the manager of a phase, until its end is called; once bound has passed,
// without asking for more time. It says how much of the bound is left if left is
// true.
func (p *Process) narrate(what string, bound time.Duration, left bool) *narration {
	n := &narration{end: func() {}}
	if !p.manager.Managed() {
		return n
	}
	ctx, cancel := context.WithCancel(context.Background())
	var told sync.WaitGroup
	told.Go(func() { p.keepTelling(ctx, n, what, bound, left) })
	n.end = func() { cancel(); told.Wait() }
	return n
}

func (p *Process) keepTelling(ctx context.Context, n *narration, what string, bound time.Duration, left bool) {
	tick := time.NewTicker(narrateEvery)
	defer tick.Stop()
	until := time.Now().Add(bound)
	said := ""
	for {
		text := p.coming() + what
		rest := time.Until(until)
		if left && rest > 0 {
			text += fmt.Sprintf(", %s left", rest.Round(time.Second))
		}
		if d := n.detail.Load(); d != nil {
			text += ": " + *d
		}
		if text == said {
			text = ""
		} else {
			said = text
		}
		if rest > 0 {
			p.manager.Extend(min(waitAhead, rest+waitAfter), text)
		} else if text != "" {
			p.manager.Status(text)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// says adds what the phase has come to.
func (n *narration) says(detail string) { n.detail.Store(&detail) }

// coming is how the phases of a new generation begin.
func (p *Process) coming() string {
	if p.generation == 1 {
		return "starting: "
	}
	return fmt.Sprintf("upgrading to generation %d, build %s: ", p.generation, p.cfg.Build)
}

// serving is the status of the generation that serves.
func (p *Process) serving() string {
	text := fmt.Sprintf("serving, generation %d, build %s", p.generation, p.cfg.Build)
	if old := p.draining.Load(); old != nil {
		text += fmt.Sprintf("; generation %d still drains", p.generation-1)
		if old.Connections != nil {
			text += " " + remainder(*old.Connections)
		}
	}
	return text
}

// remainder counts what a drain waits for.
func remainder(n report.Connections) string {
	return plural(n.Open, "connection") + ", " + plural(n.Requests, "request")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// narrate tells the manager how things stand, and to wait where it has to. It is called
// each second, and when something has changed that a person waits for.
func (l *loop) narrate() {
	if !l.manager.Managed() {
		return
	}
	text, waits := "", false
	switch l.State() {
	case Serving:
		text = l.serving()
		if l.lastFailure != "" {
			text += "; " + l.lastFailure
		}
		if l.queued != nil {
			text, waits = text+"; an upgrade waits for that", true
		}
	case Upgrading:
		waits = true // the new generation says the rest
	case Withdrawing:
		text, waits = l.withdrawing(), true
	case Stopping:
		text, waits = l.leaving("stopping"), true
	case Draining:
		// Told to stop, it may be the last one. Otherwise the manager waits for nothing,
		// and its status is the successor's.
		waits = l.stopping
		if l.attempt.gone && l.stopping {
			text = l.leaving("stopping")
		} else if l.attempt.gone && l.attempt.hello != nil {
			text = l.leaving(fmt.Sprintf("generation %d has died, generation %d drains before the service is started again", l.attempt.hello.Generation, l.generation))
		}
	}
	if text == l.said {
		text = ""
	}
	if text != "" {
		l.said = text
	}
	switch rest := time.Until(l.until); {
	case waits && rest > 0 && !l.unwell():
		l.manager.Extend(min(waitAhead, rest), text)
	case text != "":
		l.manager.Status(text)
	}
}

// leaving is the status of a generation that lets go.
func (l *loop) leaving(what string) string {
	text := what + ": " + remainder(l.connections()) + " left"
	if rest := time.Until(l.drainUntil); rest > 0 {
		text += fmt.Sprintf(", at most %s", rest.Round(time.Second))
	}
	return text
}

// withdrawing is the status of a service that is to stop, and waits for load balancers.
func (l *loop) withdrawing() string {
	return fmt.Sprintf("withdrawing: serves for another %s, but is not ready, so that load balancers take it out",
		max(0, time.Until(l.drainUntil)).Round(time.Second))
}

// letGoBound is the longest that the end of a generation may take.
func (p *Process) letGoBound() time.Duration {
	return p.cfg.DrainTimeout + time.Duration(len(p.stops))*p.cfg.WarmUpTimeout + waitAfter
}

// upgradeBound is the longest that an upgrade may take, with a new generation that gives
// everything back at its end.
func (p *Process) upgradeBound() time.Duration {
	return p.cfg.bound() + p.cfg.UpgradeTimeout + p.cfg.DrainTimeout + 2*p.cfg.HandoffTimeout + waitAfter
}
