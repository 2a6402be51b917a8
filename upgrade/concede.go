package upgrade

import (
	"context"
	"encoding/json"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// What the two generations tell each other about an upgrade after its commit.

// stand notes the phase of a running upgrade.
func (l *loop) stand(a *attempt, ph report.Phase) {
	if a.outcome.Phase != ph {
		l.phaseEnds(a, time.Now())
	}
	a.outcome.Phase = ph
	l.note(l.State(), l.queued != nil) // not on disk: that takes its time
}

// word is the content of a Report. Of the new generation, the old one takes only what
// that says of itself.
type word struct {
	Outcome     *Outcome            `json:"outcome,omitempty"`
	Past        *report.Past        `json:"past,omitempty"`
	Connections *report.Connections `json:"connections,omitempty"` // with Life, which earlier versions do not know
	Life        *report.Life        `json:"life,omitempty"`
	Seconds     []report.Second     `json:"seconds,omitempty"`
	Deadline    int64               `json:"deadline,omitempty"` // of the drain, in nanoseconds since 1970
}

// concede leaves the last word to the new generation: it hears how this one saw the
// upgrade, and answers the admin listener's questions from here on.
func (l *loop) concede(a *attempt) {
	// A copy: the file and the events are the new generation's now.
	o := a.outcome
	o.Result, o.Phase, o.Ended = Succeeded, "", a.handed
	o.Durations = a.phases(a.handed)
	delete(o.Durations, string(report.Drain))
	stderr := a.stderr
	if !a.committed {
		stderr = nil // it writes there still
	}
	var peer *handoff.Peer
	if a.moves() {
		peer = a.peer
	}
	waiters, link, done := a.waiters, a.hearing(), make(chan struct{})
	a.waiters, a.conceded = nil, done
	l.listeners.Go(func() {
		defer close(done)
		o.Stderr = stderr.finish()
		if link != nil {
			past := l.history.Past()
			l.tellWord(link, word{Past: &past})
			l.tellWord(link, word{Outcome: &o})
		}
		l.measures.exchange.tell()
		l.tell(report.Ended, &o)
		l.admin.handOver(peer, waiters, o)
	})
}

// hearing is the link to a new generation that understands us; nil without one.
func (a *attempt) hearing() *handoff.Link {
	if a == nil || a.hello == nil || !a.hello.Speaks() {
		return nil
	}
	return a.link
}

func (p *Process) tellWord(link *handoff.Link, w word) {
	b, err := json.Marshal(w)
	if err == nil {
		err = link.Send(handoff.Message{Type: handoff.Report, Data: b})
	}
	if err != nil {
		p.log.Debug().Err(err).Msg("the other generation was not told")
	}
}

const (
	// progressTick is how often a draining generation tells how much it has left, if
	// that has changed.
	progressTick = 200 * time.Millisecond
	// lifeTicks is after how many of them it tells in any case how it is.
	lifeTicks = 5
)

// tellProgress tells the new generation how this one is, until ctx ends.
func (p *Process) tellProgress(ctx context.Context, link *handoff.Link) {
	tick := time.NewTicker(progressTick)
	defer tick.Stop()
	last, until := report.Connections{Open: -1}, int64(0)
	for n := 0; ; n++ {
		if now, d := p.connections(), p.measures.deadline.Load(); now != last || d != until || n%lifeTicks == 0 {
			last, until = now, d
			p.tellWord(link, p.ownWord())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hearWord takes what the other generation says of itself in a Report.
func (p *Process) hearWord(m handoff.Message) (w word) {
	if err := json.Unmarshal(m.Data, &w); err != nil {
		p.log.Warn().Err(err).Msg("report of the other generation not understood")
		return word{}
	}
	p.hearLife(w)
	return w
}

// onReportMessage takes a Report of the old generation.
func (p *Process) onReportMessage(m handoff.Message) {
	w := p.hearWord(m)
	if w.Connections != nil {
		if old := p.draining.Load(); old != nil {
			p.draining.CompareAndSwap(old, &report.Predecessor{PID: old.PID, Generation: old.Generation, Connections: w.Connections})
		}
	}
	if w.Deadline != 0 {
		p.measures.oldDeadline.Store(w.Deadline)
	}
	if w.Outcome != nil {
		p.post(evReport{*w.Outcome})
	}
}

// quiet ends the copying of what the new process writes, however the upgrade went.
func (a *attempt) quiet() {
	if a != nil {
		a.stderr.finish()
	}
}
