package upgrade

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// drainOptions is the pace after an upgrade: silent connections get the first
// half of the time to send what will tell them to reconnect, and go, one after
// the other, in the rest; hijacked ones are asked in turn in the first half.
func (p *Process) drainOptions() handoff.DrainOptions {
	t := p.cfg.DrainTimeout
	return handoff.DrainOptions{Timeout: t, SilentAfter: t / 2, SilentUntil: t * 9 / 10, HijackedUntil: t / 2}
}

// stopOptions is the pace of a stop, where nobody takes over and somebody waits.
func (p *Process) stopOptions() handoff.DrainOptions {
	return handoff.DrainOptions{Timeout: p.cfg.DrainTimeout, SilentUntil: p.cfg.StopLinger, HijackedUntil: p.cfg.StopLinger}
}

// letGo ends everything that this generation does. last tells that no other
// process serves after it. It is bounded by the drain timeout and the deadlines of
// the stop hooks; the end of ctx cuts it short, that of drain what comes before the
// hooks.
func (p *Process) letGo(ctx, drain context.Context, o handoff.DrainOptions, a *attempt, last bool) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(drain, p.cfg.DrainTimeout)
	defer cancel()

	p.measures.deadline.Store(began.Add(p.cfg.DrainTimeout).UnixNano())
	errs := []error{p.park(bounded), p.closeListeners(bounded, last)}
	if last || a == nil || !a.took {
		a = a.drainedOnly(began, last)
	}
	if !a.counted { // with what was swept out of the queues
		p.census(a)
	}

	// Background work and connections end at the same time.
	var all sync.WaitGroup
	work, cuts := make([]error, 2), make([][]handoff.Cut, len(p.services))
	all.Go(func() { work[0] = p.shared.stop(bounded) })
	all.Go(func() {
		work[1] = p.exclusive.stop(bounded)
		if a.link != nil && work[1] == nil {
			// Not before they have returned; if they do not, our end will say it.
			work[1] = a.tell(handoff.Message{Type: handoff.Released})
		}
	})
	o.Timeout = max(0, p.cfg.DrainTimeout-time.Since(began))
	for i, s := range p.services {
		all.Go(func() { cuts[i] = s.server.Drain(drain, o).Cut })
	}
	all.Wait()
	errs = append(errs, work...)
	if a.conceded != nil {
		<-a.conceded // questions move over the link, too, before its last word
	}
	p.account(a, slices.Concat(cuts...))
	if a.link != nil && a.moves() {
		p.sendState(a.link, true)
		p.measures.exchange.tell()
		p.lastWord(a.link)
		errs = append(errs, a.tell(handoff.Message{Type: handoff.Bye, Account: &a.account}))
	}

	for i := len(p.stops) - 1; i >= 0 && ctx.Err() == nil; i-- {
		if err := p.stops[i].call(ctx, p.cfg.WarmUpTimeout); err != nil {
			errs = append(errs, fmt.Errorf("upgrade: stop hook %w", err))
		}
	}
	return errors.Join(errs...)
}

// tell sends a message to the new generation. That one's end is no error of the
// drain, and has been logged.
func (a *attempt) tell(m handoff.Message) error {
	err := a.link.Send(m)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// drainedOnly is the attempt as the drain needs it where no connection has moved,
// nil included: then this is a stop.
func (a *attempt) drainedOnly(began time.Time, last bool) *attempt {
	if a == nil || last {
		return &attempt{handed: began}
	}
	return &attempt{handed: began, link: a.link, hello: a.hello, conceded: a.conceded}
}

// closeListeners ends accepting; every loop has been parked before a descriptor is
// closed. The last process serves what waits in the queues, unless the service
// manager keeps the socket for whoever comes next.
func (p *Process) closeListeners(ctx context.Context, last bool) error {
	for _, ln := range p.set.Listeners() {
		if last && !ln.Passed() {
			if n := ln.Sweep(ctx); n > 0 {
				p.log.Info().Int("connections", n).Str("listener", ln.Name()).Msg("took the rest of the accept queue")
			}
		}
	}
	err := p.set.Close()
	for _, s := range p.services {
		s.server.CloseArrivals()
		s.server.Wait()
	}
	return err
}

// census begins the account of an upgrade or a stop. The accept loops are parked.
func (p *Process) census(a *attempt) {
	a.account = handoff.Account{}
	for _, s := range p.services {
		a.account.Add(s.server.Census())
	}
}

// account ends it, and logs what became of the connections.
func (p *Process) account(a *attempt, cuts []handoff.Cut) {
	p.logCuts(cuts)
	n := &a.account
	for _, s := range p.services {
		n.Add(s.server.Settle())
	}
	n.Cut = len(cuts)
	if a.peer != nil {
		_, n.Refused = a.peer.Counts()
	}
	n.Phases = a.phases(time.Now())
	p.measures.Phase(report.Drain, time.Since(a.handed))
	p.measures.Drained(*n)
	if !n.Balances() {
		p.log.Error().Any("account", n).Msg("the account of the connections does not balance")
	}
	p.log.Info().Int("connections", n.Open).Int("requests", n.Requests).Int("hijacked", n.Hijacked).
		Int("moved", n.Moved).Int("refused", n.Refused).Int("closed", n.Closed).
		Int("silent_closed", n.Retired).Int("dropped", n.Dropped).Int("cut", n.Cut).
		Int("goroutines", runtime.NumGoroutine()).Any("phases_ms", n.Phases).Msg("drained")
}

func (p *Process) logCuts(cuts []handoff.Cut) {
	for _, c := range cuts {
		p.log.Warn().Str("method", c.Method).Str("path", c.Path).Dur("age_ms", c.Age).Str("peer", c.Peer).Msg("request cut by the drain deadline")
	}
}

// phasesUntilFailure adds the phase in which the upgrade failed.
func (a *attempt) phasesUntilFailure() map[string]float64 {
	ms := a.phases(a.outcome.Ended)
	since := a.outcome.Began
	for _, t := range []time.Time{a.greeted, a.asked, a.over} {
		if t.After(since) {
			since = t
		}
	}
	ms[string(a.outcome.Phase)] = milliseconds(a.outcome.Ended.Sub(since))
	return ms
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// phases is how long each phase of an upgrade took, in milliseconds. A stop has
// only the drain.
func (a *attempt) phases(now time.Time) map[string]float64 {
	ms := map[string]float64{}
	for _, ph := range []struct {
		name     report.Phase
		from, to time.Time
	}{
		{report.Spawn, a.outcome.Began, a.greeted},
		{report.Start, a.greeted, a.asked}, // state, warm-up
		{report.Takeover, a.asked, a.over},
		{report.Commit, a.over, a.handed},
		{report.Drain, a.handed, now},
	} {
		if !ph.from.IsZero() && !ph.to.IsZero() {
			ms[string(ph.name)] = milliseconds(ph.to.Sub(ph.from))
		}
	}
	return ms
}
