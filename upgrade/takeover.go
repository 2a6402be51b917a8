package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The takeover, seen from the old generation: it parks its accept loops, keeping
// the sockets open, and hands its connections over. Nothing of it is final before
// the commit: what the new generation has not acknowledged never left, and what it
// has it can give back.

// takeOver parks every accept loop and hands over every connection that waits at a
// message boundary; from then on, each one that comes to one. It is bounded by the
// handoff timeout.
func (p *Process) takeOver(a *attempt) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.cfg.HandoffTimeout,
		fmt.Errorf("not done within %s", p.cfg.HandoffTimeout))
	defer cancel()
	if err := p.park(ctx); err != nil {
		return err
	}
	p.census(a)
	a.counted = true
	return p.moveTo(ctx, a.peer)
}

// park makes every accept loop wait, and returns when all have confirmed.
func (p *Process) park(ctx context.Context) error {
	var errs []error
	for _, ln := range p.set.Listeners() {
		errs = append(errs, ln.Park(ctx))
	}
	return errors.Join(errs...)
}

// moveTo hands the connections of every server to the peer.
func (p *Process) moveTo(ctx context.Context, peer *handoff.Peer) error {
	var errs []error
	for _, s := range p.services {
		errs = append(errs, s.server.Move(ctx, peer.Sender()))
	}
	return errors.Join(errs...)
}

// stay ends a takeover that came to nothing: what has not moved is this
// generation's, and it accepts again.
func (p *Process) stay(peer *handoff.Peer) {
	for _, s := range p.services {
		s.server.Stay()
	}
	peer.StopSending()
	parked := false
	for _, ln := range p.set.Listeners() {
		parked = parked || ln.Parked()
		if err := ln.Unpark(); err != nil {
			p.log.Error().Err(err).Str("listener", ln.Name()).Msg("does not accept again")
		}
	}
	if parked {
		p.log.Info().Msg("accepts again")
	}
}

// onTakeover takes the new generation's word that it accepts.
func (l *loop) onTakeover(a *attempt) {
	// A stop that has begun before kills the new generation.
	if a.took || l.stopping || l.State() != Upgrading {
		return
	}
	if a.overdue != nil {
		a.overdue.Stop() // the canary is over
	}
	a.moving, a.took = true, true
	l.movesTo.Store(a.peer)
	a.asked = time.Now()
	l.stand(a, report.Takeover)
	l.listeners.Go(func() { l.post(evTakenOver{a, l.takeOver(a)}) })
}

func (l *loop) onTakenOver(a *attempt, err error) {
	a.moving = false
	a.over = time.Now()
	if a.failing != nil { // it died meanwhile
		l.fail(a, a.failing.phase, a.failing.reason)
		return
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("takeover incomplete: the connections that have not moved stay here")
	}
	if a.returns { // it has changed its mind meanwhile
		l.takeBack(a)
		return
	}
	if a.peer.Err() == nil {
		l.stand(a, report.Commit)
	}
	moved, refused := a.peer.Counts()
	l.log.Info().Int("connections", a.account.Open).Int("requests", a.account.Requests).
		Int("moved", moved).Int("refused", refused).Dur("took_ms", a.over.Sub(a.asked)).Msg("taken over")
	if err := a.link.Send(handoff.Message{Type: handoff.Over}); err != nil {
		l.log.Warn().Err(err).Msg("end of the takeover not confirmed to the new generation")
	}
	if a.commits { // without waiting for that
		l.handOver(a)
		return
	}
	if !a.returned {
		// Nothing is left for it to do, and until it commits nobody accepts for certain.
		l.expect(a, l.cfg.HandoffTimeout)
	}
}

// onGiveBack hears that the new generation does not commit, and returns what it has.
func (l *loop) onGiveBack(a *attempt, m *handoff.Message) {
	if a.returns || l.State() != Upgrading {
		return
	}
	a.returns, a.took = true, true
	a.failedIn(m.Phase)
	reason := m.Reason
	// It has its drain timeout to give back; one that then does not end is killed.
	l.expect(a, l.cfg.DrainTimeout+2*l.cfg.HandoffTimeout)
	a.reason = "the new generation gave up: " + reason // it may say more, later
	l.log.Warn().Str("reason", reason).Msg("the new generation gives back what it has taken: this one accepts again")
	if !a.moving {
		l.takeBack(a)
	}
}

// takeBack accepts again and lets the new generation send.
func (l *loop) takeBack(a *attempt) {
	a.moving = true
	l.listeners.Go(func() {
		l.stay(a.peer)
		l.post(evResumed{a, a.link.Send(handoff.Message{Type: handoff.Resumed})})
	})
}

func (l *loop) onResumed(a *attempt, err error) {
	a.moving = false
	if a.failing != nil {
		l.fail(a, a.failing.phase, a.failing.reason)
		return
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("the new generation cannot give back")
	}
}
