package report

import (
	"slices"
	"time"
)

// Progress is an upgrade in its steps: one that runs, or one that has ended.
type Progress struct {
	Number int    `json:"number"`
	Result Result `json:"result"`
	// Phase is the one that runs: also Drain, after an upgrade that has succeeded, until
	// the old generation has exited. Empty: none.
	Phase  Phase  `json:"phase,omitempty"`
	Reason string `json:"reason,omitempty"` // why it failed
	Steps  []Step `json:"steps"`            // every phase, in the order of an upgrade
	// Moves is nil as long as no connection was to move.
	Moves *Moves `json:"moves,omitempty"`
}

// Moves counts connections that go from one generation to the next.
type Moves struct {
	Moved   int `json:"moved"`             // and are there
	Refused int `json:"refused,omitempty"` // by the other one
	Left    int `json:"left"`              // here, of any kind
}

// Step is one phase of an upgrade.
type Step struct {
	Phase Phase     `json:"phase"`
	Began time.Time `json:"began,omitzero"` // zero: it has not
	Ended time.Time `json:"ended,omitzero"` // zero: it runs, or has not begun
	Limit float64   `json:"limit_ms,omitempty"`
	Off   bool      `json:"off,omitempty"` // by the settings
	// Failed tells that the upgrade ended here.
	Failed bool `json:"failed,omitempty"`
}

// steps are the phases that are shown one after the other. A warm-up is part of the
// start: nothing tells the old generation when it begins.
var steps = []Phase{Spawn, Start, Gate, Canary, Takeover, Probation, Commit, Drain}

// NewProgress puts the marks of one upgrade in order. limits are those of
// [Life].Limits.
func NewProgress(marks []Mark, number int, limits map[Phase]float64) Progress {
	p := Progress{Number: number, Result: Running, Steps: make([]Step, len(steps))}
	for i, ph := range steps {
		limit, known := limits[ph]
		p.Steps[i] = Step{Phase: ph, Limit: limit, Off: known && limit == 0}
	}
	for _, m := range marks {
		if m.Upgrade == number {
			p.follow(m)
		}
	}
	return p
}

func (p *Progress) follow(m Mark) {
	at := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Phase == p.Phase })
	if at >= 0 { // whatever it is, the phase before is over
		p.Steps[at].Ended = m.At()
	}
	p.Phase = ""
	switch m.Kind {
	case PhaseBegan:
		now := slices.Index(steps, m.Phase)
		if now < 0 {
			return
		}
		// What seemed to come next, comes later: a probation before the commit.
		for i := now; i < len(p.Steps); i++ {
			p.Steps[i].Began, p.Steps[i].Ended = time.Time{}, time.Time{}
		}
		p.Phase, p.Steps[now].Began = m.Phase, m.At()
	case Outcomes:
		p.Result, p.Reason = m.Result, m.Reason
		if m.Result == Failed {
			phase := m.Phase
			if phase == WarmUp {
				phase = Start
			}
			if i := slices.Index(steps, phase); i >= 0 {
				p.Steps[i].Failed = true
			}
		}
	}
}
