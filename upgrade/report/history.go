package report

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of a [History].
const (
	// KeepSeconds is how far back the figures go.
	KeepSeconds = 300
	// KeepMarks is how many moments are remembered.
	KeepMarks = 100
	// MaxReason is how much of a reason a mark has, in bytes; the report has all of it.
	MaxReason = 200
	// maxLives bounds the generations that one second can have figures of.
	maxLives = 3
)

// History is the last minutes of a service: what its generations answered, second by
// second, and the moments of its upgrades. The zero value is empty and ready; its
// methods may be called from several goroutines. It is in memory and goes from one
// generation to the next as a [Past].
type History struct {
	mu      sync.Mutex // guards what follows
	seconds []Second   // by time, then by pid
	marks   []entry    // by ID
	noted   int64      // marks so far, with those that are forgotten
}

type entry struct {
	Mark
	order int64 // in which they came here, where an ID may come late
}

// Past is a history on its way to the next generation.
type Past struct {
	Seconds []Second `json:"seconds,omitempty"`
	Marks   []Mark   `json:"marks,omitempty"`
}

// Put takes what a generation answered in a second. What is known of that second
// and that generation already is replaced.
func (h *History) Put(seconds ...Second) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range seconds {
		i, known := slices.BinarySearchFunc(h.seconds, s, func(a, b Second) int {
			if a.At != b.At {
				return int(a.At - b.At)
			}
			return a.PID - b.PID
		})
		if known {
			h.seconds[i] = s
		} else {
			h.seconds = slices.Insert(h.seconds, i, s)
		}
	}
	if n := len(h.seconds); n > 0 {
		oldest := h.seconds[n-1].At - KeepSeconds
		old := slices.IndexFunc(h.seconds, func(s Second) bool { return s.At > oldest })
		h.seconds = slices.Delete(h.seconds, 0, max(old, n-maxLives*KeepSeconds))
	}
}

// Seconds gives the figures from a time on, in seconds since 1970.
func (h *History) Seconds(from int64) []Second {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearchFunc(h.seconds, from, func(s Second, at int64) int { return int(s.At - at) })
	for i > 0 && h.seconds[i-1].At == from {
		i--
	}
	return append([]Second{}, h.seconds[i:]...) // in JSON a list, also an empty one
}

// Follow marks what an upgrade has come to, unless that is known already. It tells
// whether it was news.
func (h *History) Follow(o Outcome) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := Mark{Kind: PhaseBegan, Upgrade: o.Number, Phase: o.Phase, ID: time.Now().UnixMicro()}
	if o.Result != Running {
		m.Kind, m.Result, m.ID = Outcomes, o.Result, o.Ended.UnixMicro()
		m.Reason = o.Reason
	}
	if h.known(m) {
		return false
	}
	h.add(m)
	return true
}

// known tells whether the upgrade has come to its end, or is in that phase already.
func (h *History) known(m Mark) bool {
	last := Phase("")
	for _, e := range h.marks {
		switch {
		case e.Upgrade != m.Upgrade:
		case e.Kind == Outcomes:
			return true
		case e.Kind == PhaseBegan:
			last = e.Phase
		}
	}
	return m.Kind == PhaseBegan && m.Phase == last
}

// Note marks a moment that is now.
func (h *History) Note(m Mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.ID = time.Now().UnixMicro()
	h.add(m)
}

// add gives the mark an ID of its own. The caller holds mu.
func (h *History) add(m Mark) {
	if len(m.Reason) > MaxReason {
		m.Reason = strings.ToValidUTF8(m.Reason[:MaxReason], "") + "…"
	}
	for {
		i, taken := h.find(m.ID)
		if !taken {
			h.noted++
			h.marks = slices.Insert(h.marks, i, entry{m, h.noted})
			h.marks = slices.Delete(h.marks, 0, max(0, len(h.marks)-KeepMarks))
			return
		}
		m.ID++
	}
}

func (h *History) find(id int64) (int, bool) {
	return slices.BinarySearchFunc(h.marks, id, func(e entry, id int64) int { return int(e.ID - id) })
}

// Marks gives the marks with an ID above after, and where [History.News] goes on.
func (h *History) Marks(after int64) (marks []Mark, cursor int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.marks {
		if e.ID > after {
			marks = append(marks, e.Mark)
		}
	}
	return marks, h.noted
}

// News gives the marks that have come since the cursor was given out, and another.
func (h *History) News(cursor int64) ([]Mark, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var marks []Mark
	for _, e := range h.marks {
		if e.order > cursor {
			marks = append(marks, e.Mark)
		}
	}
	return marks, h.noted
}

// Past gives everything, for the next generation.
func (h *History) Past() Past {
	marks, _ := h.Marks(0)
	return Past{Seconds: h.Seconds(0), Marks: marks}
}

// Learn takes what the previous generation remembers.
func (h *History) Learn(p Past) {
	h.Put(p.Seconds[max(0, len(p.Seconds)-maxLives*KeepSeconds):]...)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range p.Marks[max(0, len(p.Marks)-KeepMarks):] {
		if _, known := h.find(m.ID); !known {
			h.add(m)
		}
	}
}
