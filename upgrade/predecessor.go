package upgrade

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// predecessor is the old generation, seen from the new one. Its channels are
// closed when it has said the word, or is gone.
type predecessor struct {
	peer  *handoff.Peer
	moves bool // it can hand over connections and state

	loaded  chan struct{} // state: all of it has come
	over    chan struct{} // takeover: what could move has moved
	resumed chan struct{} // give-back: it accepts again
	gone    chan struct{}

	mu      sync.Mutex // guards what follows
	figures []health.Snapshot
}

func newPredecessor(peer *handoff.Peer, moves bool) *predecessor {
	return &predecessor{
		peer: peer, moves: moves,
		loaded: make(chan struct{}), over: make(chan struct{}), resumed: make(chan struct{}), gone: make(chan struct{}),
	}
}

// listenPredecessor takes what the old generation says until it is gone: its
// connections, its state, that it lets go of the exclusive work, and its end. Its
// death lets go, too.
func (p *Process) listenPredecessor(ctx context.Context) {
	if o := p.previous; o != nil {
		_ = o.peer.Listen(func(m handoff.Message) {
			switch m.Type {
			case handoff.StateBlob:
				if err := p.states.Receive(m); err != nil {
					p.log.Warn().Err(err).Str("state", m.Name).Msg("state of the previous generation not taken")
				}
			case handoff.StateEnd:
				closeOnce(o.loaded)
			case handoff.Over:
				closeOnce(o.over)
			case handoff.Resumed:
				closeOnce(o.resumed)
			case handoff.Figures:
				if err := o.takeFigures(m.Data); err != nil {
					p.log.Warn().Err(err).Msg("figures of the previous generation not understood")
				}
			case handoff.Abort:
				p.log.Info().Msg("the previous generation is told to stop, and so is this one")
				p.post(evAbort{})
			case handoff.Relay:
				p.relays.receive(m)
			case handoff.Metrics:
				p.takeMetrics(p.parent, m)
			case handoff.Reopen:
				p.post(evReopen{})
			case handoff.Released:
				p.post(evReleased{})
			case handoff.Report:
				p.onReportMessage(m)
			case handoff.Bye:
				p.post(evBye{m.Account})
			}
		})
		p.relays.detach(o.peer)
		p.measures.exchange.detach(p.parent)
		// Before anything is written: nobody may read the pipe any more.
		restoreStderr(true)
		close(o.gone)
		p.post(evReleased{})
	}
	// Its error says that the parent misbehaved on the pipe; it is gone either way.
	if _ = p.tableflip.WaitForParent(ctx); ctx.Err() == nil {
		p.post(evPredecessor{})
	}
}

// closeOnce closes a channel that only one goroutine closes.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

var errPredecessorGone = errors.New("the previous generation is gone")

// hears waits until the old generation has said its word.
func (o *predecessor) hears(ctx context.Context, word <-chan struct{}, bound time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bound, fmt.Errorf("no answer from the previous generation within %s", bound))
	defer cancel()
	select {
	case <-word:
		return nil
	case <-o.gone:
		return errPredecessorGone
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load takes the old generation's state. Whatever goes wrong costs state, not the
// upgrade.
func (p *Process) load(ctx context.Context) {
	o := p.previous
	if o == nil || !o.moves {
		return
	}
	p.relays.attach(o.peer)
	defer p.narrate("takes the state of the previous generation", p.cfg.WarmUpTimeout, false).end()
	err := o.peer.Send(handoff.Message{Type: handoff.WantState})
	if err == nil {
		err = o.hears(ctx, o.loaded, p.cfg.WarmUpTimeout)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn().Err(err).Msg("going on without the rest of the previous generation's state")
	}
}

// receiveConnections asks the old generation for its connections. It returns when
// all that could move have; only the end of ctx is an error, for without them this
// generation serves as well.
func (p *Process) receiveConnections(ctx context.Context) error {
	o := p.previous
	if o == nil || !o.moves {
		return ctx.Err()
	}
	defer p.narrate("takeover, the connections move", 2*p.cfg.HandoffTimeout, false).end()
	// The last figures with traffic behind them, for a probation.
	p.reach(report.Takeover, health.Spans(p.cfg.Rules))
	err := o.peer.Send(handoff.Message{Type: handoff.Takeover})
	if err == nil {
		// Twice: the old generation has that bound for its part.
		err = o.hears(ctx, o.over, 2*p.cfg.HandoffTimeout)
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn().Err(err).Msg("going on without the rest of the previous generation's connections")
	}
	return ctx.Err()
}

// giveBack returns every connection to the old generation, when this one has
// accepted and does not commit after all.
func (p *Process) giveBack(why error) {
	o := p.previous
	if o == nil || !o.moves {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.DrainTimeout)
	defer cancel()
	defer p.narrate("failed, the connections go back", p.cfg.DrainTimeout, false).end()
	reason := why.Error()
	if errors.Is(why, context.Canceled) {
		reason = "it was told to stop"
	}
	err := o.peer.Send(handoff.Message{Type: handoff.GiveBack, Reason: reason, Phase: string(phaseOf(why))})
	if err == nil {
		err = o.hears(ctx, o.resumed, 2*p.cfg.HandoffTimeout)
	}
	if err != nil {
		p.log.Error().Err(err).Msg("connections not given back")
		return
	}
	// What it sends from here on is late: it accepts, and so do we until all loops
	// have confirmed.
	errs := []error{p.park(ctx), p.moveTo(ctx, o.peer)}
	for _, s := range p.services {
		// Requests that have begun are finished, and then their connections go back.
		r := s.server.Drain(ctx, p.drainOptions())
		p.logCuts(r.Cut)
	}
	p.measures.exchange.tell()
	o.peer.StopSending()
	moved, refused := o.peer.Counts()
	p.log.Warn().Err(errors.Join(errs...)).Int("moved", moved).Int("refused", refused).Msg("connections given back to the previous generation")
}
