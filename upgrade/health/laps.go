package health

import (
	"sync"
	"time"
)

// Laps gives what was answered from one look to the next, however far apart they
// are: the points of a chart.
type Laps struct {
	window *Window

	mu   sync.Mutex // guards what follows
	at   time.Duration
	last counts
}

// Laps begins to look now.
func (w *Window) Laps() *Laps {
	l := &Laps{window: w, at: time.Since(w.epoch)}
	w.sum(&l.last)
	return l
}

// Next gives the figures since the one before. They have no memory, processor time
// and goroutines.
func (l *Laps) Next() Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	var now counts
	l.window.sum(&now)
	lap := now
	lap.since(&l.last)
	s, at := lap.figures(), time.Since(l.window.epoch)
	s.Over, s.At, s.CPU = at-l.at, time.Now(), CPUUnknown
	l.last, l.at = now, at
	// A failure whose request was in the lap before, in this one: it is in the next.
	l.last.failures -= lap.failures - uint32(s.Requests-s.Successes)
	return s
}
