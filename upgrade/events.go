package upgrade

import (
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast-go/holdfast/handoff"
)

// What happens to a process. The owning loop receives these; nobody else acts on
// them.
type (
	evStarted  struct{ err error } // warm-up is over and the process serves, or not
	evSignal   struct{ sig os.Signal }
	evAbort    struct{}            // the old generation is told to stop, and so is this one
	evRequest  struct{ r request } // by the admin listener
	evReport   struct{ o Outcome } // the old generation's view of the upgrade
	evUpgraded struct {            // tableflip's Upgrade has returned
		a   *attempt
		err error
	}
	evSuccessor struct { // a message of the new generation; nil when it is gone
		a *attempt
		m *handoff.Message
	}
	evTakenOver struct { // every connection that could move at once has its verdict
		a   *attempt
		err error
	}
	evResumed struct { // this generation accepts again, and says so
		a   *attempt
		err error
	}
	evOverdue     struct{ a *attempt }               // the new generation has not confirmed in time
	evReleased    struct{}                           // the old generation has let go of exclusive work
	evBye         struct{ account *handoff.Account } // the old generation has drained
	evPredecessor struct{}                           // the old generation has exited
	evForceDrain  struct{}                           // the drain was to end by now
	evReopen      struct{}                           // the other generation has opened the log file anew
	evAccept      struct{ err error }                // an accept loop broke
	evWithdrawn   struct{}                           // the time before a stop is over
	evFinished    struct{ err error }                // the drain or the stop is complete
	evWell        struct{}                           // the self-check has been answered
)

// post gives an event to the loop, unless that has ended.
func (p *Process) post(e any) {
	select {
	case p.events <- e:
	case <-p.ended:
	}
}

// listenSignals routes the signals to the loop until stop is called. It is
// installed first of all: a signal without a handler would end the process.
func (p *Process) listenSignals() (stop func()) {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	done := make(chan struct{})
	p.listeners.Go(func() {
		for {
			select {
			case s := <-ch:
				p.post(evSignal{s})
			case <-done:
				return
			}
		}
	})
	return func() { signal.Stop(ch); close(done) }
}

// listenSuccessor passes the new generation's messages on, and its end.
func (p *Process) listenSuccessor(a *attempt) {
	err := a.peer.Listen(func(m handoff.Message) {
		switch m.Type {
		case handoff.Relay:
			p.relays.receive(m)
		case handoff.Hello:
			if m.Takes {
				p.measures.exchange.attach(a.link)
			}
			p.post(evSuccessor{a, &m})
		case handoff.Metrics:
			p.takeMetrics(a.link, m)
		case handoff.WantState:
			p.relays.attach(a.peer)
			p.listeners.Go(func() {
				p.measures.exchange.tell() // before the end of the states, for which the other waits
				p.sendState(a.link, false)
			})
		case handoff.Phase:
			p.sendFigures(a.link, m.Spans)
			p.post(evSuccessor{a, &m})
		case handoff.Report:
			p.hearWord(m)
		default:
			p.post(evSuccessor{a, &m})
		}
	})
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		p.log.Warn().Err(err).Msg("new generation does not speak our protocol")
	}
	p.relays.detach(a.peer)
	p.measures.exchange.detach(a.link)
	p.post(evSuccessor{a, nil})
}

// sendState gives the new generation what it is to carry on.
func (p *Process) sendState(link *handoff.Link, final bool) {
	for _, err := range p.states.Send(link, final) {
		p.log.Warn().Err(err).Bool("final", final).Msg("state not passed on")
	}
}
