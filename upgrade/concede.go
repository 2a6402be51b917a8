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
	a.outcome.Phase = ph
	l.note(l.State(), l.queued != nil) // not on disk: that takes its time
}

// word is the content of a Report: one of its fields.
type word struct {
	Outcome     *Outcome            `json:"outcome,omitempty"`
	Connections *report.Connections `json:"connections,omitempty"`
}

// concede leaves the last word to the new generation: it hears how this one saw the
// upgrade, and answers the admin listener's questions from here on.
func (l *loop) concede(a *attempt) {
	// A copy: the file and the events are the new generation's now.
	o := a.outcome
	waiters := a.waiters
	a.waiters = nil
	a.conceded = make(chan struct{})
	l.listeners.Go(func() {
		defer close(a.conceded)
		o.Result, o.Phase, o.Ended = Succeeded, "", a.handed
		o.Durations = a.phases(a.handed)
		delete(o.Durations, string(report.Drain))
		if a.committed {
			o.Stderr = a.stderr.finish()
		}
		l.tellWord(a, word{Outcome: &o})
		l.tell(report.Ended, &o)
		var peer *handoff.Peer
		if a.link != nil && a.moves() {
			peer = a.peer
		}
		l.admin.handOver(peer, waiters, o)
	})
}

func (p *Process) tellWord(a *attempt, w word) {
	if a.link == nil || a.hello == nil || !a.hello.Speaks() {
		return
	}
	b, err := json.Marshal(w)
	if err == nil {
		err = a.link.Send(handoff.Message{Type: handoff.Report, Data: b})
	}
	if err != nil {
		p.log.Debug().Err(err).Msg("the new generation was not told")
	}
}

// progressTick is how often a draining generation tells how much it has left.
const progressTick = 200 * time.Millisecond

// tellProgress tells the new generation how many connections are left, until ctx ends.
func (p *Process) tellProgress(ctx context.Context, a *attempt) {
	tick := time.NewTicker(progressTick)
	defer tick.Stop()
	last := report.Connections{Open: -1}
	for {
		if n := p.connections(); n != last {
			last = n
			p.tellWord(a, word{Connections: &n})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// onReportMessage takes a Report of the old generation.
func (p *Process) onReportMessage(m handoff.Message) {
	var w word
	if err := json.Unmarshal(m.Data, &w); err != nil {
		p.log.Warn().Err(err).Msg("report of the previous generation not understood")
		return
	}
	if w.Connections != nil {
		if old := p.draining.Load(); old != nil {
			p.draining.CompareAndSwap(old, &report.Predecessor{PID: old.PID, Generation: old.Generation, Connections: w.Connections})
		}
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
