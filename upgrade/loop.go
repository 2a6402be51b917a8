package upgrade

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// ErrForced is returned by [Process.Run] when a second SIGTERM or SIGINT ended it
// before it had finished what it was doing.
var ErrForced = errors.New("upgrade: ended at once by a second signal")

// loop owns the state of a process: what is in here is touched by one goroutine.
type loop struct {
	*Process

	warming  context.CancelFunc // ends the warm-up
	attempt  *attempt           // the upgrade that runs, or has been committed
	queued   *request           // an upgrade that waits for its time
	alone    bool               // the previous generation has exited
	released bool               // it has let go of the exclusive work, or never had any
	working  bool               // this one does the exclusive work
	stopping bool               // SIGTERM, SIGINT, the end of the caller's context, or the old generation's word
	signaled bool               // by SIGTERM or SIGINT

	hasten     chan struct{}      // closed to shorten the drain
	hastened   bool               // it is
	forced     bool               // cut by a second signal
	cut        context.CancelFunc // ends the drain at once
	failure    error              // why the process stops, if not by request
	cutDrain   context.CancelFunc // ends the drain alone, not the stop hooks
	early      early              // said by the old generation before this one serves
	withdrawn  *time.Timer        // ends the time between a request to stop and the stop
	finishWith error

	said         string             // the status that the service manager has
	lastFailure  string             // of an upgrade, until the next one
	until        time.Time          // the manager may be asked to wait until then
	drainUntil   time.Time          // what the status counts down to: the end of the drain, or of its delay
	endSelfCheck context.CancelFunc // nil without a watchdog
}

// Run brings the service up, serves, upgrades on request, and returns when this
// generation is done: nil after a graceful stop or a complete drain, [ErrForced]
// after a second signal, and otherwise what went wrong. When ctx ends, the service
// stops gracefully. It is called once.
func (p *Process) Run(ctx context.Context) (err error) {
	select {
	case <-p.ended:
		return errors.New("upgrade: this generation has given up already: Serve has said why")
	default:
	}
	defer p.close()
	p.logStart()
	warm, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &loop{Process: p, warming: cancel, hasten: make(chan struct{})}
	defer l.refuse()
	if p.admin, err = newAdmin(p); err != nil {
		l.give(err)
		return l.finishWith
	}
	narrate := time.NewTicker(narrateEvery)
	defer narrate.Stop()
	if p.parent != nil {
		p.previous = newPredecessor(handoff.NewPeer(p.parent, p.receiver(), p.cfg.HandoffTimeout), p.parentMoves)
		if p.parentSays.Takes {
			p.measures.exchange.attach(p.parent)
		}
	}
	p.listeners.Go(func() { p.listenPredecessor(warm) })
	if p.admin != nil {
		p.pace = &pace{laps: p.window.Laps()}
		p.listeners.Go(p.pulse)
	}
	p.listeners.Go(func() { p.post(evStarted{p.start(warm)}) })

	done := ctx.Done()
	for {
		select {
		case <-done:
			done = nil
			l.stop("context", false)
		case <-narrate.C:
			l.narrate()
		case e := <-p.events:
			l.handle(e)
		}
		if p.State() == Stopped {
			cancel()
			p.logExit(l.finishWith)
			return l.finishWith
		}
	}
}

func (l *loop) handle(e any) {
	switch e := e.(type) {
	case evStarted:
		l.onStarted(e.err)
	case evSignal:
		l.onSignal(e.sig)
	case evAbort:
		l.stop("previous generation", false)
	case evRequest:
		l.onRequest(e.r)
	case evReport:
		l.onReport(e.o)
	case evForceDrain:
		l.log.Warn().Msg("drain cut: an upgrade was asked for that does not wait for it")
		l.cutDrain()
	case evReopen:
		l.reopen()
	case evReleased:
		l.released = true
		l.startExclusive()
	case evPredecessor:
		l.alone, l.released = true, true
		l.measures.oldDeadline.Store(0)
		l.other.Store(nil)
		if l.draining.Swap(nil) != nil {
			if o := l.outcome; o != nil && o.Result == Succeeded {
				l.history.Note(report.Mark{Kind: report.Drained, Upgrade: o.Number})
			}
			l.tell(report.Changed, nil)
		}
		if l.generation > 1 {
			l.log.Info().Msg("previous generation has exited")
		}
		l.startExclusive()
		l.next()
		l.narrate()
	case evWell:
		l.onWell()
	case evUpgraded:
		l.onUpgraded(e.a, e.err)
	case evSuccessor:
		l.onSuccessor(e.a, e.m)
	case evTakenOver:
		l.onTakenOver(e.a, e.err)
	case evResumed:
		l.onResumed(e.a, e.err)
	case evBye:
		l.onBye(e.account)
	case evOverdue:
		l.onOverdue(e.a)
	case evAccept:
		l.log.Error().Err(e.err).Msg("accept loop broke")
		l.failure = e.err
		l.stop("accept loop broke", false)
	case evWithdrawn:
		l.onWithdrawn()
	case evFinished:
		l.onFinished(e.err)
	}
}

func (l *loop) onStarted(err error) {
	switch {
	case err != nil && l.stopping:
		// The warm-up was interrupted; that is no failure of its own.
		l.give(nil)
	case err != nil:
		l.give(err)
	default:
		l.enter(Serving)
		l.publish()
		l.beginSelfCheck()
		l.until = time.Now().Add(l.letGoBound()) // for a request that waits for the old generation
		if l.early.report != nil {
			l.onReport(*l.early.report)
		}
		l.onBye(l.early.bye)
		if l.stopping {
			l.beginStop()
			return
		}
		l.startExclusive()
		l.press()
		l.next()
	}
}

// startExclusive begins the work that only one generation may do, once this one
// serves and the previous one has let go.
func (l *loop) startExclusive() {
	if s := l.State(); !l.released || l.working || (s != Serving && s != Upgrading) {
		return
	}
	l.working = true
	l.exclusive.start()
	if len(l.exclusive.hooks) > 0 {
		l.log.Info().Msg("exclusive work begins")
	}
}

// give ends a process that has not served.
func (l *loop) give(err error) {
	l.finishWith = err
	l.confess(err)
	l.enter(Stopped)
	l.removeMade()
}

func (l *loop) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGUSR2, syscall.SIGHUP:
		l.onRequest(request{at: time.Now(), by: "signal", signal: sig.String()})
	case syscall.SIGUSR1:
		l.reopen()
		l.passReopenOn()
	case syscall.SIGTERM, syscall.SIGINT:
		again := l.signaled
		l.signaled = true
		l.stop(sig.String(), again)
	}
}

// stop begins a graceful stop, or its delay, shortens a drain, or ends at once when it
// comes again by signal. A stop that reaches both generations of an upgrade reaches the
// new one twice, by its signal and by the word of the old one: that is once.
func (l *loop) stop(why string, again bool) {
	first := !l.stopping
	if l.stopping = true; first {
		l.log.Info().Str("why", why).Stringer("state", l.State()).Msg("stop requested")
	} else if !again && l.failure == nil {
		return
	}
	switch l.State() {
	case Starting:
		l.warming()
	case Serving:
		l.beginStop()
	case Upgrading:
		// Once the new generation may have connections, to kill it would be to cut
		// them: it is asked to give them back, or commits, and is stopped then.
		if first {
			l.stopSuccessor(l.attempt)
		}
		if !l.attempt.returned && (!l.attempt.serves() || !first) {
			// Ends the new process, unless it is ready in this very moment: evUpgraded
			// will tell.
			l.tableflip.Stop()
		}
		if !first {
			l.force()
		}
	case Draining:
		l.hurry()
		if !first {
			l.force()
		}
	case Withdrawing:
		if l.failure == nil { // or it is a listener that broke, and not a second signal
			l.force()
		}
		l.onWithdrawn()
	case Stopping:
		if !first {
			l.force()
		}
	}
}

// stopSuccessor has the new generation of an upgrade give back what it has, and end.
func (l *loop) stopSuccessor(a *attempt) {
	if a.moves() && a.link.Send(handoff.Message{Type: handoff.Abort}) == nil {
		return
	}
	if pid := a.pid(); a.returned && pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGTERM) // it serves in a moment, and would go on
	}
}

// hurry shortens the drain: silent connections are closed soon.
func (l *loop) hurry() {
	if !l.hastened {
		l.hastened = true
		close(l.hasten)
	}
}

// force cuts the drain.
func (l *loop) force() {
	l.forced = true
	if l.cut != nil {
		l.log.Warn().Msg("second signal: ending at once")
		l.cut()
	}
}

// lets notes how long the end of this generation may take from now.
func (l *loop) lets() {
	l.until, l.drainUntil = time.Now().Add(l.letGoBound()), time.Now().Add(l.cfg.DrainTimeout)
}

// leave drains in a goroutine of its own; evFinished ends it.
func (l *loop) leave(o handoff.DrainOptions, last bool) {
	ctx, cut := context.WithCancel(context.Background())
	l.cut = cut
	if l.forced {
		cut()
	}
	drain, cutDrain := context.WithCancel(ctx)
	l.cutDrain = cutDrain
	o.Hasten, o.HastenTo = l.hasten, l.cfg.StopLinger
	attempt := l.attempt
	if link := attempt.hearing(); !last && link != nil {
		l.listeners.Go(func() { l.tellProgress(drain, link) })
	}
	l.listeners.Go(func() {
		err := l.letGo(ctx, drain, o, attempt, last)
		cutDrain()
		l.post(evFinished{err})
	})
}

func (l *loop) onFinished(err error) {
	if err != nil {
		l.log.Error().Err(err).Msg("not everything has ended")
	}
	if l.attempt != nil && l.attempt.link != nil {
		l.attempt.peer.StopSending()
		_ = l.attempt.link.Close()
	}
	l.attempt.quiet()
	switch {
	case l.forced:
		l.finishWith = ErrForced
	default:
		l.finishWith = l.failure
	}
	if l.pid != nil {
		l.pid.remove()
	}
	l.enter(Stopped)
	l.note(Stopped, false)
}
