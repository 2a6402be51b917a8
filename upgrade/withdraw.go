package upgrade

import "time"

// beginStop leaves Serving or Upgrading for good, without a successor: at once, or
// after Config.StopDelay. It does not wait for a listener that is broken, nor after a
// second signal.
func (l *loop) beginStop() {
	l.refuse()
	l.queued = nil
	if l.cfg.StopDelay == 0 || l.failure != nil || l.forced {
		l.endService()
		return
	}
	l.withdraw()
}

// withdraw goes on serving all that comes, and says to whoever asks that this service
// is not ready, so that load balancers send the next requests elsewhere.
func (l *loop) withdraw() {
	l.enter(Withdrawing)
	l.publish()
	l.log.Info().Dur("for_ms", l.cfg.StopDelay).Msg("withdrawing: not ready any more, and serving until the stop begins")
	l.until, l.drainUntil = time.Now().Add(l.cfg.StopDelay+l.letGoBound()), time.Now().Add(l.cfg.StopDelay)
	l.said = l.withdrawing()
	l.manager.Stopping(l.said)
	l.narrate() // asks for the time
	l.withdrawn = time.AfterFunc(l.cfg.StopDelay, func() { l.post(evWithdrawn{}) })
}

// onWithdrawn begins the stop, because the delay is over or somebody has lost patience.
func (l *loop) onWithdrawn() {
	if l.State() != Withdrawing {
		return
	}
	l.withdrawn.Stop()
	l.endService()
}

// endService closes the listeners and lets go.
func (l *loop) endService() {
	l.enter(Stopping)
	l.publish()
	l.lets()
	l.said = l.leaving("stopping")
	l.manager.Stopping(l.said)
	// No more upgrades, and the files of Unix sockets go.
	l.tableflip.Stop()
	l.leave(l.stopOptions(), true)
}
