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
	for _, ln := range p.set.Listeners() {
		if err := ln.Unpark(); err != nil {
			p.log.Error().Err(err).Str("listener", ln.Name()).Msg("does not accept again")
		}
	}
}

// onTakeover takes the new generation's word that it accepts.
func (l *loop) onTakeover(a *attempt) {
	if a.taking || a.took || l.State() != Upgrading {
		return
	}
	a.taking, a.took = true, true
	a.asked = time.Now()
	l.stand(a, report.Takeover)
	l.manager.Status("upgrading: connections move to the new generation")
	l.listeners.Go(func() { l.post(evTakenOver{a, l.takeOver(a)}) })
}

func (l *loop) onTakenOver(a *attempt, err error) {
	a.taking = false
	a.over = time.Now()
	if err != nil {
		l.log.Warn().Err(err).Msg("takeover incomplete: the connections that have not moved are drained")
	}
	if a.failing != nil { // it died meanwhile
		l.fail(a, a.failing.phase, a.failing.reason)
		return
	}
	if a.returns { // it has changed its mind meanwhile
		l.onGiveBack(a)
		return
	}
	l.stand(a, report.Commit)
	moved, refused := a.peer.Sender().Counts()
	l.log.Info().Int("connections", a.account.Open).Int("requests", a.account.Requests).
		Int("moved", moved).Int("refused", refused).Dur("took_ms", a.over.Sub(a.asked)).Msg("taken over")
	if err := a.link.Send(handoff.Message{Type: handoff.Over}); err != nil {
		l.log.Warn().Err(err).Msg("end of the takeover not confirmed to the new generation")
	}
}

// onGiveBack takes back what a new generation returns that does not commit.
func (l *loop) onGiveBack(a *attempt) {
	a.returns = true
	if a.taking || l.State() != Upgrading {
		return
	}
	l.log.Warn().Msg("the new generation gives back what it has taken: this one accepts again")
	l.listeners.Go(func() {
		l.stay(a.peer)
		if err := a.link.Send(handoff.Message{Type: handoff.Resumed}); err != nil {
			l.log.Warn().Err(err).Msg("the new generation cannot give back")
		}
	})
}
