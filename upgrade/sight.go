package upgrade

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// What the status page sees: this generation, the other one as it last told of itself,
// and the last minutes of both.

// sight is what a process knows for the status page.
type sight struct {
	pace    *pace // nil where nobody asks
	history report.History
	other   atomic.Pointer[told]         // the other generation, while there is one
	movesTo atomic.Pointer[handoff.Peer] // where connections go in an upgrade
}

// told is what the other generation has said of itself, and when.
type told struct {
	report.Life
	at time.Time
}

// maxPath is how much of a request's path is shown.
const maxPath = 200

// life is this generation as it is now.
func (p *Process) life() report.Life {
	n := p.connections()
	l := report.Life{
		Generation: p.generation, PID: os.Getpid(), Build: p.cfg.Build, State: p.State().String(), Started: p.started,
		Connections: &n, Limits: p.cfg.limits(),
	}
	var running []handoff.Request
	for _, s := range p.services {
		running = append(running, s.server.Requests(report.MaxRequests)...)
	}
	slices.SortStableFunc(running, func(a, b handoff.Request) int { return int(b.Age - a.Age) })
	for _, q := range running[:min(len(running), report.MaxRequests)] {
		l.Requests = append(l.Requests, report.InFlight{
			Method: shorten(q.Method, maxPath), Path: shorten(q.Path, maxPath), Age: milliseconds(q.Age), Hijacked: q.Hijacked,
		})
	}
	if peer := p.movesTo.Load(); peer != nil {
		moved, refused := peer.Counts()
		l.Moves = &report.Moves{Moved: moved - peer.Adopted(), Refused: refused, Left: n.Open}
	}
	return l
}

// shorten cuts a text that a client has sent, and sees to it that it is one.
func shorten(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}

// limits says how long each phase may take, in milliseconds; 0 is one that is off.
func (c Config) limits() map[report.Phase]float64 {
	gate := c.GateTimeout
	if len(c.Gate) == 0 {
		gate = 0
	}
	ms := map[report.Phase]float64{}
	for ph, d := range map[report.Phase]time.Duration{
		report.Spawn: c.UpgradeTimeout, report.Start: c.UpgradeTimeout, report.Gate: gate, report.Canary: c.Canary,
		report.Takeover: c.HandoffTimeout, report.Probation: c.Probation, report.Commit: c.HandoffTimeout, report.Drain: c.DrainTimeout,
	} {
		ms[ph] = milliseconds(d)
	}
	return ms
}

// View implements [control.Service].
func (s adminFace) View() report.View {
	st, own := s.currentStatus(), s.life()
	v := report.View{Time: time.Now(), Queued: st.Queued, Lives: []report.Life{own}}
	limits := maps.Clone(own.Limits)
	switch o := st.Upgrade; {
	case st.Predecessor != nil:
		old := s.otherLife(st.Predecessor.PID)
		old.Generation, old.State = st.Predecessor.Generation, Draining.String()
		if st.Predecessor.Connections != nil {
			old.Connections = st.Predecessor.Connections // the newest word
		}
		if old.Limits != nil {
			limits[report.Drain] = old.Limits[report.Drain]
		}
		v.Lives = []report.Life{old, own}
	case o != nil && o.Result == Running && o.To != 0:
		next := s.otherLife(o.To)
		next.Generation, next.Build = o.ToGeneration, o.ToBuild
		for _, ph := range []report.Phase{report.Start, report.Gate, report.Canary, report.Probation} {
			if next.Limits != nil { // its settings are newer
				limits[ph] = next.Limits[ph]
			}
		}
		v.Lives = append(v.Lives, next)
	}
	if st.Upgrade != nil {
		marks, _ := s.history.Marks(0)
		pr := report.NewProgress(marks, st.Upgrade.Number, limits)
		pr.Moves = moves(v.Lives, *st.Upgrade)
		v.Upgrade = &pr
	}
	return v
}

// moves is how far the connections of an upgrade have come.
func moves(lives []report.Life, o Outcome) *report.Moves {
	for _, l := range lives {
		if l.Moves != nil {
			return l.Moves
		}
	}
	if n := o.Connections; n != nil {
		return &report.Moves{Moved: n.Moved, Refused: n.Refused}
	}
	return nil
}

// otherLife is the generation with this pid as it last told of itself, if it did.
func (p *Process) otherLife(pid int) report.Life {
	t := p.other.Load()
	if t == nil || t.PID != pid {
		return report.Life{PID: pid, State: Starting.String()}
	}
	l := t.Life
	l.Requests = slices.Clone(l.Requests)
	for i := range l.Requests {
		l.Requests[i].Age += milliseconds(time.Since(t.at))
	}
	return l
}

// History implements [control.Service].
func (s adminFace) History() *report.History { return &s.history }
