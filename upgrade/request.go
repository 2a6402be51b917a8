package upgrade

import (
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control"
)

// request is somebody's wish for an upgrade.
type request struct {
	at      time.Time
	by      string // "signal" or "admin"
	signal  string
	force   bool                    // shorten the drain that it would have to wait for
	waiters []chan<- control.Answer // each has room for the answer
}

// join makes one request of two, since each would start the same binary.
func (r request) join(earlier *request) request {
	if earlier != nil {
		r.force = r.force || earlier.force
		r.waiters = append(earlier.waiters, r.waiters...)
	}
	return r
}

// onRequest takes a wish for an upgrade: now, later, or on to the successor.
func (l *loop) onRequest(r request) {
	switch l.State() {
	case Draining:
		l.admin.pass(r.waiters)
		if pid := l.attempt.pid(); pid > 0 && syscall.Kill(pid, syscall.SIGUSR2) == nil {
			l.log.Info().Int("successor", pid).Str("signal", r.signal).Msg("request for an upgrade passed on")
			return
		}
		l.log.Warn().Str("signal", r.signal).Msg("request for an upgrade refused: this generation drains and its successor is not known")
	case Withdrawing, Stopping, Stopped:
		l.log.Warn().Str("signal", r.signal).Msg("request for an upgrade refused: the service stops")
		reply(r.waiters, control.Answer{Refused: "the service stops"})
	default:
		r = r.join(l.queued)
		l.queued = &r
		l.press()
		l.next()
		if l.queued != nil {
			l.publish()
			l.log.Info().Str("by", r.by).Str("signal", r.signal).Stringer("state", l.State()).Bool("predecessor_drains", !l.alone).
				Msg("request for an upgrade queued")
		}
	}
}

// next starts the queued upgrade if its time has come.
func (l *loop) next() {
	if l.queued == nil || l.State() != Serving || !l.alone {
		return
	}
	r := *l.queued
	l.queued = nil
	l.begin(r)
}

// press tells a predecessor that still drains to hurry, if the queued request is a
// forced one.
func (l *loop) press() {
	if l.queued == nil || !l.queued.force || l.alone || l.previous == nil || l.State() != Serving {
		return
	}
	l.log.Info().Dur("within_ms", l.cfg.ForceDrain).Msg("the previous generation is told to end its drain")
	if err := l.previous.peer.Send(handoff.Message{Type: handoff.Hurry}); err != nil {
		l.log.Warn().Err(err).Msg("the previous generation cannot be told to hurry")
	}
}

// onHurry ends the drain soon: the successor is to be upgraded, too.
func (l *loop) onHurry() {
	if l.State() != Draining {
		return
	}
	l.log.Info().Dur("within_ms", l.cfg.ForceDrain).Msg("hastening: the next upgrade shall not wait for this drain")
	l.hurry()
	l.measures.deadline.Store(time.Now().Add(l.cfg.ForceDrain).UnixNano())
	cut := time.AfterFunc(l.cfg.ForceDrain, func() { l.post(evForceDrain{}) })
	l.listeners.Go(func() { <-l.ended; cut.Stop() })
}

// refuse answers those whose request nobody carries out any more.
func (l *loop) refuse() {
	if l.queued != nil {
		reply(l.queued.waiters, control.Answer{Refused: "the service stops"})
		l.queued.waiters = nil
	}
}
