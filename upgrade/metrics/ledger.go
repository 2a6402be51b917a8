package metrics

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Ledger adds up what the generations of a service have counted. Its methods may be
// called from several goroutines.
//
// What is shown has been told before: show the [Count] that the other generation was
// told, not a later one. If that has to go on alone, what was shown stays.
type Ledger struct {
	own prometheus.Gatherer

	mu        sync.Mutex // guards what follows
	inherited families   // of generations that are gone
	other     families   // of the one that lives beside this one, as it last said
}

// NewLedger makes the ledger of a generation that counts in own.
func NewLedger(own prometheus.Gatherer) *Ledger { return &Ledger{own: own} }

// Count is what a generation has counted itself, at one time.
type Count struct {
	own families
	err error // of a collector
}

// Count counts.
func (l *Ledger) Count() Count {
	own, err := l.own.Gather()
	return Count{index(own), err}
}

// Show adds up c, what has been inherited, and what the other generation has told. An
// error is that of a collector; what the others have gathered is there all the same. It
// uses c up.
func (l *Ledger) Show(c Count) ([]*dto.MetricFamily, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.own.add(l.inherited)
	c.own.add(l.other)
	return c.own.sorted(), c.err
}

// Tell gives c and what this generation has inherited, for the other one's
// [Ledger.Hear]. An error means that there is too much to tell. That a collector is
// broken, Show will say.
func (l *Ledger) Tell(c Count) ([]byte, error) {
	sum := c.own.carried()
	have := sum.series()
	l.mu.Lock()
	sum.add(l.inherited)
	l.mu.Unlock()
	if n := sum.series(); n > MaxSeries {
		// What this binary does not have itself will not grow any more: it can go.
		sum = c.own.carried()
		sum.addKnown(l.snapshot())
		if have > MaxSeries {
			return nil, fmt.Errorf("metrics: %d series, at most %d go on in the next generation", have, MaxSeries)
		}
	}
	return encode(sum)
}

func (l *Ledger) snapshot() families {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inherited
}

// Hear takes what the other generation has told. It replaces what that one said
// before. An error says why it is not used.
func (l *Ledger) Hear(b []byte) error {
	f, err := decode(b)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.other = f
	return nil
}

// Settle is for the end of the other generation: what it said last is inherited.
func (l *Ledger) Settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A new one: Tell may be reading the old one.
	sum := families{}
	sum.add(l.inherited)
	sum.add(l.other.carriedOn())
	l.inherited, l.other = sum, nil
}
