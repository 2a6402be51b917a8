package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The new generation on trial: what it must show before it takes traffic, and
// while it does, as long as the old one can still take everything back.

// phaseError says in which phase a new generation gave up.
type phaseError struct {
	phase report.Phase
	err   error
}

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// phaseOf is the phase in which err came up.
func phaseOf(err error) report.Phase {
	var pe *phaseError
	if errors.As(err, &pe) {
		return pe.phase
	}
	return report.Start
}

// reach tells the old generation which phase this one is in.
func (p *Process) reach(phase report.Phase, spans []time.Duration) {
	if o := p.previous; o != nil && o.moves {
		// An old generation that cannot be told is noticed where it is needed.
		_ = o.peer.Send(handoff.Message{Type: handoff.Phase, Phase: string(phase), Spans: spans})
	}
}

// passGate asks this generation's probes until they have passed often enough.
func (p *Process) passGate(ctx context.Context) error {
	if len(p.cfg.Gate) == 0 {
		return ctx.Err()
	}
	p.reach(report.Gate, nil)
	began := time.Now()
	n := p.narrate("gate", p.cfg.GateTimeout, true)
	err := health.Gate{
		Probes: p.cfg.Gate, Self: p.self, InARow: p.cfg.GateInARow, Deadline: p.cfg.GateTimeout,
		Progress: func(r health.Round) { n.says(r.String()) },
	}.Run(ctx)
	n.end()
	if err != nil {
		return &phaseError{report.Gate, fmt.Errorf("gate: %w", err)}
	}
	p.log.Info().Int("probes", len(p.cfg.Gate)).Dur("took_ms", time.Since(began)).Msg("gate passed")
	return nil
}

// canary has both generations accept for a while, and judges this one by its own
// traffic.
func (p *Process) canary(ctx context.Context) error {
	if p.cfg.Canary <= 0 {
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	open.Go(func() { p.limitShare(ctx, p.cfg.CanaryShare) })
	err := p.trial(ctx, report.Canary, p.fit(p.cfg.Canary, p.cfg.Probation))
	cancel()
	open.Wait()
	return err
}

// probation judges this generation under all of the traffic, while the old one
// waits.
func (p *Process) probation(ctx context.Context) error {
	if p.cfg.Probation <= 0 {
		return ctx.Err()
	}
	err := p.trial(ctx, report.Probation, p.fit(p.cfg.Probation, 0))
	if err == nil {
		p.reach(report.Commit, nil)
	}
	return err
}

// fit shortens a phase, and in the same measure one that is still to come, to what the
// old generation gives this one before it kills it: that one has its own settings, and
// may know nothing of a trial.
func (p *Process) fit(length, later time.Duration) time.Duration {
	bound := p.parentSays.Bound
	if bound <= 0 {
		return length
	}
	// The rest is for the takeover and the commit.
	left := bound - time.Since(p.started) - min(p.cfg.HandoffTimeout, bound/4)
	if length+later <= left {
		return length
	}
	short := max(0, time.Duration(float64(length)*float64(left)/float64(length+later)))
	p.log.Warn().Dur("wanted_ms", length).Dur("length_ms", short).Dur("bound_ms", bound).
		Msg("trial shortened: the previous generation would end this one before; its settings are older")
	return short
}

// trial has the rules judge this generation for a phase. An old generation that
// dies meanwhile ends it: there is nobody any more who could do better.
func (p *Process) trial(ctx context.Context, phase report.Phase, length time.Duration) error {
	o := p.previous
	if o == nil || !o.moves {
		return ctx.Err() // nobody could take anything back
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-o.gone:
			cancel(errPredecessorGone)
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer cancel(nil)

	var spans []time.Duration
	if phase == report.Canary {
		spans = health.Spans(p.cfg.Rules) // later the old generation has no traffic: see receiveConnections
	}
	p.reach(phase, spans)
	n := p.narrate(string(phase), length, true)
	defer n.end()
	p.log.Info().Str("phase", string(phase)).Dur("length_ms", length).Int("rules", len(p.cfg.Rules)).Msg("on trial")
	p.judging.Lock()
	defer p.judging.Unlock()
	report, err := health.Judge{
		Rules: p.cfg.Rules, Phase: length, Strict: p.cfg.StrictRules, Self: p.self,
		Own: p.figures, Old: o.figuresOver,
		Progress: func(r health.Report) {
			p.reach(phase, spans)      // the old generation takes silence for death
			p.measures.exchange.tell() // and has no other way to know what a dead one had counted
			n.says(fmt.Sprint(r.Verdict))
		},
	}.Run(ctx)
	p.verdict(phase, report)
	switch {
	case errors.Is(err, errPredecessorGone):
		p.log.Warn().Err(err).Str("phase", string(phase)).Msg("going on without a trial")
		return nil
	case err != nil:
		return &phaseError{phase, err}
	case !report.Passed:
		return &phaseError{phase, errors.New(report.Reason)}
	}
	return nil
}

// figures is the judge's look at this generation.
func (p *Process) figures(over time.Duration) health.Snapshot {
	if p.window == nil {
		return health.Snapshot{} // no rule asks
	}
	return p.window.Snapshot(over)
}

// verdict logs what the rules found.
func (p *Process) verdict(phase report.Phase, r health.Report) {
	for _, rule := range r.Rules {
		p.log.Info().Str("phase", string(phase)).Str("rule", rule.Rule).Str("verdict", fmt.Sprint(rule.Verdict)).Str("reason", rule.Reason).Msg("rule")
	}
	p.log.Info().Str("phase", string(phase)).Bool("passed", r.Passed).Str("reason", r.Reason).Dur("took_ms", r.Took).Msg("verdict")
}

// sharePeriod is the grain in which a canary accepts and pauses.
const sharePeriod = 200 * time.Millisecond

// limitShare has this generation accept for a part of the time only. Both
// generations wait on the same accept queue, which gives each of them about half of the
// connections while both are at it.
func (p *Process) limitShare(ctx context.Context, share float64) {
	if share >= 0.5 {
		return
	}
	open := time.Duration(2 * share * float64(sharePeriod))
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() {
		for _, ln := range p.set.Listeners() {
			_ = ln.Unpark() // it is closed, or accepts
		}
	}()
	for accepts := false; ; accepts = !accepts {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if accepts {
			_ = p.park(ctx) // an error is the end of ctx
			timer.Reset(sharePeriod - open)
			continue
		}
		for _, ln := range p.set.Listeners() {
			_ = ln.Unpark()
		}
		timer.Reset(open)
	}
}
