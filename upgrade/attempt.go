package upgrade

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// attempt is one upgrade, seen from the old generation.
type attempt struct {
	outcome   Outcome
	link      *handoff.Link    // nil where there is none
	remote    *os.File         // the child's end of it, until the child is ready
	peer      *handoff.Peer    // the new generation at its other end
	hello     *handoff.Message // of the new generation, once it has said it
	committed bool             // the new generation has confirmed
	reason    string           // why the new generation gave up, in its own words
	err       error            // of tableflip's Upgrade
	gone      bool             // its end of the link is closed
	returned  bool             // tableflip's Upgrade has returned
	overdue   *time.Timer
	waiters   []chan<- control.Answer // who asked for it
	stderr    *capture                // what the new process writes; nil: not captured
	conceded  chan struct{}           // closed when the new generation has the last word

	took    bool     // the takeover has begun, at some time
	counted bool     // the account has begun
	returns bool     // the new generation gives back what it has taken
	moving  bool     // a goroutine takes over or back; what follows waits for its end
	failing *failure // why the upgrade has failed
	commits bool     // the upgrade has been committed

	greeted, asked, over, handed time.Time // hello, takeover begun and ended, commit
	since                        time.Time // of the phase that it is in; zero: of its beginning
	account                      handoff.Account
}

// failure is why an upgrade failed.
type failure struct {
	phase  report.Phase
	reason string
}

// pid is the new generation's, or 0 while it is not known.
func (a *attempt) pid() int {
	if a == nil || a.hello == nil {
		return 0
	}
	return a.hello.PID
}

// moves tells whether the new generation can take connections and state.
func (a *attempt) moves() bool { return a.hello != nil && a.hello.Moves() }

// failedIn notes where the new generation says that it gave up.
func (a *attempt) failedIn(phase string) {
	if phase != "" {
		a.outcome.Phase = report.Phase(phase)
	}
}

// at is where the new process is, from its start on.
func (a *attempt) at() report.Phase {
	if a.outcome.Phase == report.Spawn {
		return report.Start
	}
	return a.outcome.Phase
}

// stays says why no connection moves to the new generation, or nothing.
func (a *attempt) stays() string {
	switch {
	case a.moves():
		return ""
	case a.link == nil:
		return "there is no link"
	case a.hello == nil:
		return "the new generation does not use the link"
	case !a.hello.Speaks():
		return fmt.Sprintf("no common protocol: the new generation speaks versions %v", a.hello.Versions)
	}
	return fmt.Sprintf("the new generation speaks versions %v of the protocol, this one %v", a.hello.Versions, handoff.ProtocolVersions)
}

// begin starts an upgrade.
func (l *loop) begin(r request) {
	now := time.Now()
	a := &attempt{outcome: Outcome{
		Number: l.number(), Result: Running, Phase: report.Spawn,
		From: os.Getpid(), FromGeneration: l.generation, FromBuild: l.cfg.Build,
		By: r.by, Forced: r.force, Requested: r.at, Began: now,
	}, waiters: r.waiters}
	l.attempt = a
	l.outcome = &a.outcome
	l.enter(Upgrading)
	l.publish()
	l.log.Info().Int("upgrade", a.outcome.Number).Str("by", r.by).Str("signal", r.signal).Msg("upgrade begins")
	l.until, l.lastFailure = time.Now().Add(l.upgradeBound()), ""
	l.said = fmt.Sprintf("upgrading from generation %d, build %s: a new process starts", l.generation, l.cfg.Build)
	l.manager.Reloading(l.said, waitAhead)

	if l.measures.spent.Load() {
		l.fail(a, report.Spawn, "an earlier successor died after it had taken over, and tableflip permits no second one: restart the service")
		return
	}
	path, err := preflight()
	if err != nil {
		l.fail(a, report.Spawn, err.Error())
		return
	}
	if err := l.makeLink(a); err != nil {
		l.fail(a, report.Spawn, err.Error())
		return
	}
	l.captureStderr(a)
	l.log.Debug().Str("binary", path).Msg("starting the new generation")
	l.listeners.Go(func() { l.post(evUpgraded{a, l.spawn()}) })
}

// makeLink makes the socketpair, greets the process that does not exist yet, and
// leaves its end where the child inherits it.
func (l *loop) makeLink(a *attempt) error {
	link, remote, err := handoff.NewLink()
	if err != nil {
		l.log.Warn().Err(err).Msg("upgrading without a link between the generations")
		return nil
	}
	err = link.Send(l.hello())
	if err == nil {
		// The same key each time: tableflip cannot remove a file, but replace it. It
		// duplicates the descriptor.
		err = l.tableflip.AddFile(linkFile, remote)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pass on link: %w", err), link.Close(), remote.Close())
	}
	a.link, a.remote = link, remote
	a.peer = handoff.NewPeer(link, l.receiver(), l.cfg.HandoffTimeout)
	l.measures.follow(a.peer)
	l.listeners.Go(func() { l.listenSuccessor(a) })
	return nil
}

// spawn has tableflip start the new process and waits until it is ready, has
// failed, or is overdue.
func (p *Process) spawn() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		err := p.tableflip.Upgrade()
		if err == nil {
			return nil
		}
		// tableflip's own goroutine may learn a moment after us that this process is
		// ready and that its parent has exited; it has no event for either. Both are
		// certain here, so the answer changes within a scheduling delay.
		switch err.Error() {
		case "process is not ready yet", "parent hasn't exited":
			<-tick.C
			continue
		}
		return err
	}
}

// fail ends an upgrade; this generation goes on.
func (l *loop) fail(a *attempt, phase report.Phase, reason string) {
	if a.moving {
		a.failing = &failure{phase, reason} // its end is near: the link has ended
		return
	}
	if a.took {
		l.stay(a.peer)
		back := a.peer.Adopted()
		if moved, _ := a.peer.Counts(); moved > back {
			l.log.Error().Int("connections", moved-back).Int("taken_back", back).Msg("connections lost with the new generation")
		} else if back > 0 {
			l.log.Info().Int("connections", back).Msg("taken back from the new generation")
		}
	}
	if a.remote != nil {
		// Offers that it has not read hold our connections open, closed or not.
		if err := handoff.Purge(a.remote); err != nil {
			l.log.Warn().Err(err).Msg("connections on their way to the new generation are closed late")
		}
		_ = a.remote.Close()
	}
	a.outcome.Result, a.outcome.Phase, a.outcome.Reason = Failed, phase, reason
	a.outcome.Ended, a.outcome.To = time.Now(), a.pid()
	a.outcome.Durations = a.phasesUntilFailure()
	a.outcome.Stderr = a.stderr.finish()
	l.phaseEnds(a, a.outcome.Ended)
	l.measures.Upgraded(a.outcome)
	if a.link != nil {
		_ = a.link.Close()
		// tableflip drops the child's end when the next one replaces it, without
		// closing it; only its finalizer does. A failed upgrade is rare enough to pay.
		runtime.GC()
	}
	if a.overdue != nil {
		a.overdue.Stop()
	}
	l.attempt = nil
	l.other.Store(nil)
	l.movesTo.Store(nil)
	// The new one may have come as far as that.
	if l.pid != nil && !l.pid.names() {
		if err := l.pid.write(); err != nil {
			l.log.Error().Err(err).Msg("PID file not restored")
		}
	}
	l.log.Error().Int("upgrade", a.outcome.Number).Str("phase", string(phase)).Str("reason", reason).
		Dur("after_ms", a.outcome.Ended.Sub(a.outcome.Began)).Msg("upgrade failed: this generation goes on")
	l.record(report.Ended, a.outcome)
	final := a.outcome
	reply(a.waiters, control.Answer{Outcome: &final})
	a.waiters = nil
	if l.stopping {
		l.beginStop()
		return
	}
	l.enter(Serving)
	l.publish()
	l.lastFailure = fmt.Sprintf("upgrade failed (%s): %s; process %d goes on", phase, reason, os.Getpid())
	l.said = l.serving() + "; " + l.lastFailure
	l.manager.Resumed(l.said, os.Getpid())
	l.next()
}

func (l *loop) onUpgraded(a *attempt, err error) {
	a.returned = true
	if a.err = err; err != nil {
		// What it said before it died is in the link; after that comes evSuccessor.
		if a.link == nil || a.gone || a.link.Finish() != nil {
			l.fail(a, a.at(), l.explain(a))
		}
		return
	}
	if a.remote != nil {
		_ = a.remote.Close() // from here on the end of the file is the child's
		a.remote = nil
	}
	l.measures.spent.Store(true) // whatever comes: tableflip upgrades once
	if l.stopping {
		l.stopSuccessor(a) // the stop came in the moment of success
	}
	switch {
	case a.committed:
		l.handOver(a)
	case a.link == nil, a.hello == nil && a.gone, a.hello != nil && !a.hello.Speaks():
		l.handOver(a) // it does not speak to us, and has told everyone before it was ready
	case a.gone:
		l.fail(a, report.Commit, a.diedReady())
	default:
		// Until it confirms that it serves under the PID file, this one accepts too.
		wait := l.cfg.UpgradeTimeout
		if a.hello == nil {
			wait = helloTimeout // its greeting is on its way, or it has none
		}
		if a.overdue != nil {
			a.overdue.Stop()
		}
		a.overdue = time.AfterFunc(wait, func() { l.post(evOverdue{a}) })
	}
}

// diedReady says why a new generation failed that was ready.
func (a *attempt) diedReady() string {
	if a.reason != "" {
		return a.reason
	}
	return "the new generation died after it was ready"
}

// explain makes tableflip's error a sentence, or lets the new process speak.
func (l *loop) explain(a *attempt) string {
	s := a.err.Error()
	switch {
	case a.reason != "":
		return a.reason
	case strings.Contains(s, "timed out"):
		return fmt.Sprintf("the new process was not ready within %s and was killed", l.cfg.bound())
	case strings.HasPrefix(s, "child ") && strings.Contains(s, " exited: "):
		_, status, _ := strings.Cut(s, " exited: ")
		return "the new process ended before it was ready: " + status + "; its last words are in this log's stream"
	case strings.HasPrefix(s, "child ") && strings.HasSuffix(s, " exited"):
		return "the new process ended before it was ready: exit status 0"
	case strings.Contains(s, "fork/exec: "):
		_, why, _ := strings.Cut(s, "fork/exec: ")
		return fmt.Sprintf("the binary %s cannot be executed: %s", os.Args[0], why)
	case s == "terminating":
		return "the service was told to stop"
	}
	return s
}
