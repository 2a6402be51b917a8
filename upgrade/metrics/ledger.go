package metrics

import (
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Ledger adds up what the generations of a service have counted. It is the
// prometheus.Gatherer to expose in place of the registry. Its methods may be called
// from several goroutines.
type Ledger struct {
	own prometheus.Gatherer

	mu        sync.Mutex // guards what follows
	inherited families   // of generations that are gone
	other     families   // of the one that lives beside this one, as it last said
}

// NewLedger makes the ledger of a generation that counts in own.
func NewLedger(own prometheus.Gatherer) *Ledger { return &Ledger{own: own} }

// Gather implements [prometheus.Gatherer]. An error is that of a collector; what the
// others have gathered is there all the same.
func (l *Ledger) Gather() ([]*dto.MetricFamily, error) {
	own, err := l.own.Gather()
	sum := index(own)
	l.mu.Lock()
	defer l.mu.Unlock()
	sum.add(l.inherited)
	sum.add(l.other)
	return sum.sorted(), err
}

// Tell gives what this generation has counted and inherited, for the other one's
// [Ledger.Hear]. An error means that there is too much to tell.
func (l *Ledger) Tell() ([]byte, error) {
	own, _ := l.own.Gather() // a collector that is broken is reported by a scrape
	sum := index(own).carried()
	have := sum.series()
	l.mu.Lock()
	sum.add(l.inherited)
	l.mu.Unlock()
	if n := sum.series(); n > MaxSeries {
		// What this binary does not have itself will not grow any more: it can go.
		sum = index(own).carried()
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
