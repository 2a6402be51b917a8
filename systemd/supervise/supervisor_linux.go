package supervise

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// lookEvery is how often the loop looks again at what has no event: another
// process's handlers, lock and children. Only while there is a reason to.
const lookEvery = 20 * time.Millisecond

// The bounds of its waits; the tests have less patience.
var (
	// settle is how long a command that has not written the PID file is thought to be on
	// its way to doing so. Until it has handlers, SIGUSR2 and SIGHUP would kill it.
	settle = 3 * time.Second
	// awaitTimeout is how long a generation whose predecessor has died may take to
	// serve: the default of the service's --upgrade-timeout.
	awaitTimeout = time.Minute
	// restTimeout is how long what the service leaves behind may take to end.
	restTimeout = 5 * time.Second
	// killTimeout is how long a killed process may take to end. One that waits for a
	// broken disk does not.
	killTimeout = 5 * time.Second
)

type state int

const (
	following state = iota // a generation lives
	awaiting               // it has died, and another one is to be named
	ending                 // the service has ended; the rest is on its way
	ended
)

// supervisor owns the state. All of it is touched by the one goroutine that runs loop.
type supervisor struct {
	log         zerolog.Logger
	pidFile     pidFile
	stopTimeout time.Duration
	tty         bool // there was a terminal at the start

	state    state
	followed int       // the child whose end is to be noticed; 0: none
	since    time.Time // when it came to be followed
	last     exit      // the last one that was followed
	served   int       // the last one that was seen in the PID file
	known    exit      // the end of a served one that was a child of ours

	waiting  []syscall.Signal // for a generation that can take them
	stopping syscall.Signal   // the last one that asked for a stop; 0: none did
	told     map[int]bool     // who has heard it
	deadline time.Time        // of the state, or of the stop; zero: none
	killing  bool             // the deadline has passed
}

func (s *supervisor) loop(sigs signals) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for s.state != ended {
		var look <-chan time.Time
		if s.state != following || s.stopping != 0 || len(s.waiting) > 0 {
			look = tick.C
		}
		var sig os.Signal
		var child bool
		select {
		case sig = <-sigs.asked:
		case <-sigs.child:
			child = true
		case <-look:
		}
		if s.state == awaiting {
			s.succeed() // whatever happens next happens to that one
		}
		switch {
		case sig != nil:
			s.onSignal(sig.(syscall.Signal))
		case child:
			s.reap()
		default:
			s.look()
		}
	}
}

// exit is the end of a process: its exit code, or 128 and the signal that killed it.
type exit struct{ pid, code int }

// reap takes every child that has ended, also those that somebody has left to us.
func (s *supervisor) reap() {
	ends, none := reap()
	named := s.pidFile.names()
	for _, e := range ends {
		if e.pid == named || e.pid == s.served {
			s.served, s.known = e.pid, e
		}
	}
	for _, e := range ends {
		if e.pid == s.followed {
			s.onEnd(e)
		} else {
			s.log.Debug().Int("child", e.pid).Int("code", e.code).Msg("reaped")
		}
	}
	if s.state == ending && none {
		s.state = ended
	}
}

// reap takes those children that have ended; none: there are no others.
func reap() (ends []exit, none bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return ends, errors.Is(err, unix.ECHILD)
		case status.Signaled():
			ends = append(ends, exit{pid, 128 + int(status.Signal())})
		default:
			ends = append(ends, exit{pid, status.ExitStatus()})
		}
	}
}

// onEnd takes the end of the process that is followed: there is a successor, or one is
// on its way, or that was all.
func (s *supervisor) onEnd(e exit) {
	s.followed, s.last = 0, e
	s.log.Info().Int("child", e.pid).Int("code", e.code).Msg("generation has ended")
	if s.succeed() {
		return
	}
	if s.pidFile.locked() && len(descendants()) > 0 {
		s.state = awaiting
		if s.stopping == 0 {
			s.deadline = time.Now().Add(awaitTimeout)
		}
		s.log.Warn().Msg("another generation lives: waiting until the PID file names it")
		s.tell()
		return
	}
	s.end()
}

// succeed follows the process that the PID file names. It is the child of ours from
// which that descends: its end is the one that we are told.
func (s *supervisor) succeed() bool {
	line := s.current()
	if line == nil {
		return false
	}
	if s.stopping == 0 {
		s.deadline = time.Time{}
	}
	s.follow(line[len(line)-1], "following the next generation")
	s.tell()
	return true
}

// current is the generation that the PID file names, with its lineage; nil if none.
func (s *supervisor) current() []int {
	line := lineage(s.pidFile.names())
	if line != nil {
		s.served = line[0]
	}
	return line
}

func (s *supervisor) follow(pid int, msg string) {
	s.state, s.followed, s.since = following, pid, time.Now()
	s.log.Info().Int("child", pid).Msg(msg)
}

// code is the exit code of the last generation, that is, of the last one in the PID
// file, if it was a child of ours and not of one that drained. One that ends as it
// should removes the file; the stop may then still kill it, or its predecessor, on the
// way out.
func (s *supervisor) code() int {
	last := s.last
	if s.served != 0 && s.served == s.known.pid {
		last = s.known
	}
	switch named := s.pidFile.names(); {
	case s.followed != 0:
		return 128 + int(syscall.SIGKILL) // and still there
	case named == 0 && s.served != 0 && last.code == 128+int(s.stopping):
		return 0
	case named != 0 && named != last.pid && last.code == 0:
		s.log.Error().Int("child", named).Msg("the last generation has died while the one before it drained")
		return 1
	}
	return last.code
}

// end sees to what the service has left behind.
func (s *supervisor) end() {
	s.state = ending
	by := time.Now().Add(restTimeout)
	if s.deadline.IsZero() || by.Before(s.deadline) {
		s.deadline = by
	}
	if rest := descendants(); len(rest) > 0 {
		s.log.Info().Ints("children", rest).Msg("ending what is left")
		s.sendAll(rest, syscall.SIGTERM)
	}
}

// look does what has no event.
func (s *supervisor) look() {
	if !s.deadline.IsZero() && time.Now().After(s.deadline) {
		s.onDeadline()
	}
	switch s.state {
	case following:
		s.deliver()
		s.tell()
	case awaiting:
		if !s.succeed() && (!s.pidFile.locked() || len(descendants()) == 0) {
			s.end()
		}
	case ending:
		s.reap()
	}
	if s.killing && s.state != ended {
		s.sendAll(descendants(), syscall.SIGKILL) // also what has been started meanwhile
	}
}

func (s *supervisor) onDeadline() {
	rest := descendants()
	switch {
	case s.killing:
		s.log.Error().Ints("children", rest).Msg("killed, and still there: leaving them")
		s.state = ended
	case s.state == awaiting && s.stopping == 0:
		s.log.Error().Dur("timeout_ms", awaitTimeout).Msg("no generation has come to serve")
		s.end()
	default:
		s.log.Warn().Ints("children", rest).Msg("not ended in time: killed")
		s.killing, s.deadline = true, time.Now().Add(killTimeout)
	}
}

func (s *supervisor) sendAll(pids []int, sig syscall.Signal) {
	for _, pid := range pids {
		if _, err := send(pid, sig); err != nil && !os.IsPermission(err) {
			s.log.Warn().Err(err).Int("child", pid).Msg("signal not sent")
		}
	}
}
