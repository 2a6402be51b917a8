package upgrade

import (
	"errors"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The new generation, seen from the old one: what it says, its silence, its end, and
// the commit.

// onSuccessor takes a message of the new generation; nil is the end of its link.
func (l *loop) onSuccessor(a *attempt, m *handoff.Message) {
	if a != l.attempt {
		return // of an upgrade that has failed
	}
	switch {
	case m == nil:
		a.gone = true
		switch {
		case a.returned && a.err != nil:
			l.fail(a, a.at(), l.explain(a))
		case a.hello == nil || !a.hello.Speaks():
			// Closed by one that does not know the link: no news of its life.
			if a.returned && l.State() == Upgrading {
				l.handOver(a)
			}
		case l.State() == Draining:
			l.onSuccessorGone(a)
		case a.returned && !a.committed:
			l.fail(a, report.Commit, a.diedReady())
		case !a.returned:
			why := "it does not speak the protocol of the link"
			if err := a.peer.Err(); err != nil {
				why = err.Error()
			}
			l.onSuccessorStuck(a, why)
		}
	case m.Type == handoff.Hello:
		a.hello = m
		a.greeted = time.Now()
		a.outcome.To, a.outcome.ToGeneration, a.outcome.ToBuild = m.PID, m.Generation, m.Build
		l.stand(a, report.Start)
		l.log.Info().Str("successor_build", m.Build).Int("successor", m.PID).Msg("hello from the new generation")
		if a.overdue != nil && m.Speaks() {
			a.overdue.Reset(l.cfg.UpgradeTimeout)
		}
	case m.Type == handoff.Takeover:
		l.onTakeover(a)
	case m.Type == handoff.GiveBack:
		l.onGiveBack(a, m)
	case m.Type == handoff.Phase:
		l.onPhase(a, report.Phase(m.Phase))
	case m.Type == handoff.Hurry:
		l.onHurry()
	case m.Type == handoff.Reopen:
		l.reopen()
	case m.Type == handoff.Failed:
		a.reason = m.Reason
		a.failedIn(m.Phase)
	case m.Type == handoff.Committed:
		a.committed = true
		if a.returned {
			l.handOver(a)
		}
	}
}

// onSuccessorGone takes the end of the link while this generation drains.
func (l *loop) onSuccessorGone(a *attempt) {
	for _, s := range l.services {
		s.server.Stay() // from here on clients are told to close
	}
	if err := a.peer.Err(); errors.Is(err, handoff.ErrStalled) {
		l.log.Error().Err(err).Int("successor", a.pid()).Msg("connections move no more: the rest is drained here")
		return
	}
	l.log.Error().Int("successor", a.pid()).Msg("the new generation is gone while this one drains: hastening, so that the service manager can restart the service")
	l.hurry()
	l.narrate()
}

// onSuccessorStuck ends a new generation that is not ready yet and does not do its
// part: it does not acknowledge, or what it says makes no sense, and this end of the
// link has been shut (the other end has a descriptor here, so it is not its death);
// or it has everything and does not commit.
func (l *loop) onSuccessorStuck(a *attempt, why string) {
	if a.reason == "" {
		a.reason = "the new process was stuck and was killed: " + why
	}
	l.log.Error().Int("successor", a.pid()).Str("reason", a.reason).Msg("the new generation is stuck: it is killed")
	if err := syscall.Kill(a.pid(), syscall.SIGKILL); err != nil {
		l.log.Warn().Err(err).Msg("new generation not killed")
	}
}

func (l *loop) onOverdue(a *attempt) {
	if a != l.attempt || l.State() != Upgrading || a.committed {
		return
	}
	if !a.returned {
		l.onSuccessorStuck(a, a.silence(l.cfg.HandoffTimeout))
		return
	}
	if a.returns {
		return // its end will say it
	}
	if a.hello != nil {
		l.log.Error().Int("successor", a.pid()).Msg("the new generation is ready but has not confirmed: handing over all the same")
	}
	l.handOver(a)
}

// handOver is the commit seen from here: the new generation serves, this one
// only drains. It owns the PID file, the status and the service manager's
// attention from now on.
func (l *loop) handOver(a *attempt) {
	if a.commits = true; a.moving {
		return // a new generation that did not wait; ours is bounded
	}
	if a.overdue != nil {
		a.overdue.Stop()
	}
	l.enter(Draining)
	a.handed = time.Now()
	l.phaseEnds(a, a.handed)
	l.measures.Upgraded(Outcome{Result: Succeeded})
	l.log.Info().Int("upgrade", a.outcome.Number).Int("successor", a.pid()).
		Dur("after_ms", time.Since(a.outcome.Began)).Msg("upgrade committed: this generation drains")
	if reason := a.stays(); reason != "" {
		l.log.Warn().Str("reason", reason).Msg("connections do not move: this generation drains them")
	}
	if l.endSelfCheck != nil {
		l.endSelfCheck() // the new generation is the one to be watched
		l.endSelfCheck = nil
	}
	l.lets()
	l.concede(a)
	if l.queued != nil {
		r := *l.queued
		l.queued = nil
		l.onRequest(r)
	}
	if l.stopping || (a.gone && a.hello != nil && a.hello.Speaks()) {
		l.hurry()
	}
	l.leave(l.drainOptions(), false)
}
