package upgrade

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/metrics"
)

// measures is what a process tells a scraper.
type measures struct {
	*metrics.Counters
	exchange exchange
	spent    atomic.Bool // tableflip will not upgrade again

	// When a drain is to be over, its own and the one that its predecessor tells, in
	// nanoseconds since 1970; 0: there is none.
	deadline, oldDeadline atomic.Int64

	mu    sync.Mutex // guards what follows
	moves metrics.Moves
	peer  *handoff.Peer // of the upgrade that runs; counted beside moves
}

// measure registers what the process tells.
func (p *Process) measure() error {
	registry := p.cfg.Metrics
	if registry == nil {
		registry = prometheus.NewRegistry()
	}
	m := &measures{Counters: metrics.NewCounters()}
	m.exchange.ledger = metrics.NewLedger(registry)
	p.measures = m
	return metrics.Register(registry, m.Counters, metrics.NewCollector(p.view, stateNames[:]))
}

// Metrics implements [control.Service].
func (s adminFace) Metrics() http.Handler {
	// A collector that is broken costs its own metrics and not the scrape.
	return promhttp.HandlerFor(&s.measures.exchange, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

// view is the process as a scrape finds it.
func (p *Process) view() metrics.View {
	m := p.measures
	v := metrics.View{Status: p.currentStatus(), Possible: !m.spent.Load(), Moves: m.moved()}
	for _, s := range p.services {
		v.Counts.Add(s.server.Counts())
		v.Totals.Add(s.server.Totals())
		v.Listeners = append(v.Listeners, s.listeners...)
	}
	at := m.oldDeadline.Load()
	switch old := v.Status.Predecessor; {
	case old != nil:
		if old.Connections != nil {
			v.Left = old.Connections.Open
		}
	case p.State() == Stopping:
		at, v.Left = m.deadline.Load(), v.Counts.Conns
	default:
		at = 0
	}
	if at != 0 {
		v.Deadline = time.Unix(0, at)
	}
	return v
}

// moved adds up what has moved in all attempts.
func (m *measures) moved() metrics.Moves {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.moves
	if m.peer != nil {
		moved, refused := m.peer.Counts()
		sum.Moved += moved
		sum.Refused += refused
		sum.TakenBack += m.peer.Adopted()
	}
	return sum
}

// follow counts what moves to this peer from now on.
func (m *measures) follow(peer *handoff.Peer) {
	sum := m.moved()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moves, m.peer = sum, peer
}

// phaseEnds counts the phase in which the upgrade has been until now.
func (l *loop) phaseEnds(a *attempt, now time.Time) {
	since := a.since
	if since.IsZero() {
		since = a.outcome.Began
	}
	l.measures.Phase(a.outcome.Phase, now.Sub(since))
	a.since = now
}
