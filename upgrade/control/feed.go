package control

import (
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/report"
)

// backlog is how many events wait for a client that does not read.
const backlog = 64

// Feed gives each event to everyone who listens. The zero value is ready.
type Feed struct {
	mu    sync.Mutex // guards what follows
	subs  map[chan report.Event]struct{}
	count int // of events so far
}

// changes counts what has been published.
func (f *Feed) changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// Listened tells whether there is anyone.
func (f *Feed) Listened() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.subs) > 0
}

// Publish never blocks: whoever has fallen behind by too much is cut off.
func (f *Feed) Publish(e report.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	for ch := range f.subs {
		select {
		case ch <- e:
		default:
			delete(f.subs, ch)
			close(ch)
		}
	}
}

// Subscribe returns the events from now on. The channel is closed for one who has
// fallen behind. cancel is to be called in any case.
func (f *Feed) Subscribe() (events <-chan report.Event, cancel func()) {
	ch := make(chan report.Event, backlog)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subs == nil {
		f.subs = map[chan report.Event]struct{}{}
	}
	f.subs[ch] = struct{}{}
	return ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, ch)
	}
}

func now(kind report.EventKind, s report.Status, o *report.Outcome) report.Event {
	return report.Event{Time: time.Now(), Kind: kind, Status: s, Outcome: o}
}
