package upgrade

import (
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The trial of the new generation, seen from the old one: it hears in which phase
// the other is, gives its own figures for comparison, and takes silence for a hang.

// heartbeatTimeout is how long a new generation on trial may be silent. It sends
// something four times a second, so this is no matter of a busy machine.
const heartbeatTimeout = 2 * time.Second

// onPhase notes where the new generation is.
func (l *loop) onPhase(a *attempt, phase report.Phase) {
	if l.State() != Upgrading {
		return
	}
	if a.outcome.Phase != phase {
		l.stand(a, phase)
		l.log.Info().Int("upgrade", a.outcome.Number).Str("phase", string(phase)).Msg("new generation")
	}
	switch phase {
	case report.Canary, report.Probation:
		l.expect(a, heartbeatTimeout)
	case report.Commit:
		l.expect(a, l.cfg.HandoffTimeout)
	}
}

// serves tells whether the new generation may have connections.
func (a *attempt) serves() bool { return a.took || a.outcome.Phase == report.Canary }

// expect bounds the time until the new generation's next word.
func (l *loop) expect(a *attempt, within time.Duration) {
	if a.returned {
		return // it is bounded by the commit
	}
	if a.overdue == nil {
		a.overdue = time.AfterFunc(within, func() { l.post(evOverdue{a}) })
		return
	}
	a.overdue.Reset(within)
}

// silence says what it means that the new generation has not spoken in time.
func (a *attempt) silence(handoffTimeout time.Duration) string {
	if a.returns {
		return "it gives back what it has taken, and does not end"
	}
	switch a.outcome.Phase {
	case report.Canary, report.Probation:
		return fmt.Sprintf("no sign of life for %s", heartbeatTimeout)
	}
	return fmt.Sprintf("it has not committed within %s of the takeover", handoffTimeout)
}

// sendFigures gives the new generation what to compare itself with.
func (p *Process) sendFigures(link *handoff.Link, spans []time.Duration) {
	if p.window == nil || len(spans) == 0 || len(spans) > maxSpans {
		return
	}
	var all []health.Snapshot
	for _, over := range spans {
		all = append(all, p.window.Snapshot(over))
	}
	b, err := health.Encode(all...)
	if err == nil {
		err = link.Send(handoff.Message{Type: handoff.Figures, Data: b})
	}
	if err != nil {
		p.log.Warn().Err(err).Msg("figures not given to the new generation")
	}
}

// maxSpans is what health.Encode takes.
const maxSpans = 64

// takeFigures keeps the old generation's figures for the judge.
func (o *predecessor) takeFigures(b []byte) error {
	all, err := health.Decode(b)
	if err == nil {
		o.mu.Lock()
		o.figures = all
		o.mu.Unlock()
	}
	return err
}

// figuresOver is the judge's look at the old generation.
func (o *predecessor) figuresOver(over time.Duration) (health.Snapshot, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return health.ForSpan(o.figures, over)
}
