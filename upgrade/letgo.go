package upgrade

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
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
// the stop hooks; the end of ctx cuts it short.
func (p *Process) letGo(ctx context.Context, o handoff.DrainOptions, a *attempt, last bool) error {
	began := time.Now()
	bounded, cancel := context.WithTimeout(ctx, p.cfg.DrainTimeout)
	defer cancel()

	errs := []error{p.closeListeners(bounded, last)}

	// Background work and connections end at the same time.
	var all sync.WaitGroup
	work, reports := make([]error, 2), make([]handoff.DrainReport, len(p.services))
	all.Go(func() { work[0] = p.shared.stop(bounded) })
	all.Go(func() {
		work[1] = p.exclusive.stop(bounded)
		if a != nil && a.link != nil && !last {
			// Not before they have returned; if they do not, our end will say it.
			if work[1] == nil {
				work[1] = a.link.Send(handoff.Message{Type: handoff.Released})
			}
		}
	})
	o.Timeout = max(0, p.cfg.DrainTimeout-time.Since(began))
	for i, s := range p.services {
		all.Go(func() { reports[i] = s.server.Drain(ctx, o) })
	}
	all.Wait()
	errs = append(errs, work...)
	p.account(reports, time.Since(began))

	for i := len(p.stops) - 1; i >= 0 && ctx.Err() == nil; i-- {
		if err := p.stops[i].call(ctx, p.cfg.WarmUpTimeout); err != nil {
			errs = append(errs, fmt.Errorf("upgrade: stop hook %w", err))
		}
	}
	return errors.Join(errs...)
}

// closeListeners ends accepting: every loop is parked and has confirmed before a
// descriptor is closed. The last process serves what waits in the queues, unless
// the service manager keeps the socket for whoever comes next.
func (p *Process) closeListeners(ctx context.Context, last bool) error {
	var errs []error
	for _, ln := range p.set.Listeners() {
		errs = append(errs, ln.Park(ctx))
	}
	for _, ln := range p.set.Listeners() {
		if last && !ln.Passed() {
			if n := ln.Sweep(ctx); n > 0 {
				p.log.Info().Int("connections", n).Str("listener", ln.Name()).Msg("took the rest of the accept queue")
			}
		}
	}
	errs = append(errs, p.set.Close())
	for _, s := range p.services {
		s.server.Wait()
	}
	return errors.Join(errs...)
}

// account logs what the drain did.
func (p *Process) account(reports []handoff.DrainReport, took time.Duration) {
	var sum handoff.DrainReport
	for _, r := range reports {
		sum.Start.Conns += r.Start.Conns
		sum.Start.Requests += r.Start.Requests
		sum.Start.Silent += r.Start.Silent
		sum.Start.Hijacked += r.Start.Hijacked
		sum.Retired += r.Retired
		sum.Dropped += r.Dropped
		sum.Cut = append(sum.Cut, r.Cut...)
	}
	for _, c := range sum.Cut {
		p.log.Warn().Str("method", c.Method).Str("path", c.Path).Dur("age_ms", c.Age).Str("peer", c.Peer).Msg("request cut by the drain deadline")
	}
	p.log.Info().Int("connections", sum.Start.Conns).Int("requests", sum.Start.Requests).
		Int("hijacked", sum.Start.Hijacked).Int("silent_closed", sum.Retired).Int("dropped", sum.Dropped).
		Int("cut", len(sum.Cut)).Int("goroutines", runtime.NumGoroutine()).Dur("took_ms", took).Msg("drained")
}
