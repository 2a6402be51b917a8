package supervise

import (
	"slices"
	"syscall"
	"time"
)

// Where a signal goes.

func (s *supervisor) onSignal(sig syscall.Signal) {
	switch {
	case sig == syscall.SIGHUP && s.tty && !terminal():
		s.log.Info().Msg("the terminal is gone")
		s.stop(syscall.SIGTERM)
	case sig == syscall.SIGTERM || sig == syscall.SIGINT:
		s.stop(sig)
	case sig == syscall.SIGQUIT:
		s.forward(sig, true)
	default:
		// Several that wait become one, as pending signals do (signal(7)).
		if !slices.Contains(s.waiting, sig) {
			s.waiting = append(s.waiting, sig)
		}
		s.deliver()
	}
}

// stop tells every generation, each time anew.
func (s *supervisor) stop(sig syscall.Signal) {
	if s.stopping == 0 && s.state != ending {
		s.deadline = time.Now().Add(s.stopTimeout)
	}
	s.stopping, s.told = sig, map[int]bool{}
	s.log.Info().Stringer("signal", sig).Dur("timeout_ms", s.stopTimeout).Msg("stop requested")
	s.tell()
}

// tell passes the stop on to the generations that have not heard it: one may have come
// to serve since, at the end of an upgrade.
func (s *supervisor) tell() {
	if s.stopping == 0 {
		return
	}
	for _, pid := range s.generations() {
		if s.told[pid] {
			continue
		}
		sent, err := send(pid, s.stopping)
		s.told[pid] = sent || err != nil
		if err != nil {
			s.log.Warn().Err(err).Int("child", pid).Msg("signal not sent")
		}
	}
}

// generations lists the current generation and the older ones that still drain, which
// are its ancestors. One that does not serve yet is its predecessor's to end. If none
// serves, it is all that there is.
func (s *supervisor) generations() []int {
	if line := s.current(); line != nil {
		return line
	}
	if s.followed != 0 {
		return []int{s.followed}
	}
	return descendants()
}

// deliver sends what waits. A command that has not written its PID file for a while
// will not: it gets the signals itself, as from any other parent.
func (s *supervisor) deliver() {
	for len(s.waiting) > 0 && s.forward(s.waiting[0], time.Since(s.since) > settle) {
		s.waiting = s.waiting[1:]
	}
}

// forward sends a signal to the current generation; anyway: if there is none, to the
// process that is followed.
func (s *supervisor) forward(sig syscall.Signal, anyway bool) bool {
	to := 0
	if line := s.current(); line != nil {
		to = line[0]
	} else if anyway {
		to = s.followed
	}
	if to == 0 {
		return false
	}
	sent, err := send(to, sig)
	if err != nil {
		s.log.Warn().Err(err).Int("child", to).Stringer("signal", sig).Msg("signal not sent")
		return true
	}
	if sent {
		s.log.Info().Int("child", to).Stringer("signal", sig).Msg("signal passed on")
	}
	return sent
}
