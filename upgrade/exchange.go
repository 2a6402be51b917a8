package upgrade

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/metrics"
)

const (
	// answerTimeout bounds a scrape's wait for the other generation's figures. Then the
	// last ones count.
	answerTimeout = 500 * time.Millisecond
	// maxUnanswered is how many questions the other generation may leave unanswered
	// until it is asked no more: it hangs, and its queue is not there to be filled.
	maxUnanswered = 4
)

// exchange lets two generations tell each other what they have counted; see package
// [metrics]. It is the gatherer of the admin listener.
type exchange struct {
	ledger *metrics.Ledger
	log    zerolog.Logger

	telling sync.Mutex // orders the messages: figures that are older must not come later

	mu           sync.Mutex // guards what follows
	link         *handoff.Link
	asked, heard uint64        // the last question, and the last answer
	news         chan struct{} // closed when there is an answer, or the other has gone
}

var _ prometheus.Gatherer = (*exchange)(nil)

// Gather implements [prometheus.Gatherer].
func (x *exchange) Gather() ([]*dto.MetricFamily, error) {
	return x.ledger.Show(x.ask())
}

// attach begins to talk to another generation, which takes metrics.
func (x *exchange) attach(link *handoff.Link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.end() // of an upgrade that has failed just now
	x.link, x.asked, x.heard, x.news = link, 0, 0, make(chan struct{})
}

// detach is for the end of a link. What has been heard over it is inherited.
func (x *exchange) detach(link *handoff.Link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.link == link {
		x.end()
	}
}

// end inherits what the other generation has told. The caller holds mu.
func (x *exchange) end() {
	if x.link == nil {
		return
	}
	x.link = nil
	x.ledger.Settle()
	close(x.news)
}

// ask tells the other generation what this one has counted, which it returns, and waits
// for what that one has.
func (x *exchange) ask() metrics.Count {
	x.mu.Lock()
	link := x.link
	if link == nil || x.asked-x.heard >= maxUnanswered {
		x.mu.Unlock()
		return x.ledger.Count()
	}
	x.asked++
	number := x.asked
	x.mu.Unlock()
	count, err := x.send(link, handoff.Message{Type: handoff.Metrics, Want: true, Seq: number})
	if errors.Is(err, errTooMuch) {
		return count
	}
	// Also where it could not be sent: the other one has gone, and what it has said last
	// may not have been read yet.
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	for {
		x.mu.Lock()
		done, news := x.link != link || x.heard >= number, x.news
		x.mu.Unlock()
		if done {
			return count
		}
		select {
		case <-news:
		case <-timeout.C:
			x.log.Warn().Dur("after_ms", answerTimeout).Msg("the other generation does not tell its metrics: those it told last are shown")
			return count
		}
	}
}

// tell tells the other generation what this one has counted, unasked.
func (x *exchange) tell() {
	x.mu.Lock()
	link := x.link
	x.mu.Unlock()
	if link != nil {
		_, _ = x.send(link, handoff.Message{Type: handoff.Metrics}) // has logged its error
	}
}

// errTooMuch says that there are too many series to be told.
var errTooMuch = errors.New("too much to tell")

// send returns what it has told.
func (x *exchange) send(link *handoff.Link, m handoff.Message) (metrics.Count, error) {
	x.telling.Lock()
	defer x.telling.Unlock()
	count := x.ledger.Count()
	b, err := x.ledger.Tell(count)
	if err != nil {
		err = fmt.Errorf("%w: %w", errTooMuch, err)
	} else {
		err = link.SendBlob(m, b)
	}
	if err != nil {
		x.log.Debug().Err(err).Msg("metrics not told to the other generation")
	}
	return count, err
}

// takeMetrics takes what the other generation tells.
func (p *Process) takeMetrics(link *handoff.Link, m handoff.Message) {
	if answer := p.measures.exchange.take(link, m); answer != nil {
		p.listeners.Go(answer) // not here: connections and acknowledgements wait for this goroutine
	}
}

// take takes what the other generation tells, and returns the answer that it wants;
// nil: none.
func (x *exchange) take(link *handoff.Link, m handoff.Message) (answer func()) {
	b, err := m.Blob()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.link != link {
		return nil
	}
	if err == nil {
		err = x.ledger.Hear(b)
	}
	if err != nil {
		x.log.Warn().Err(err).Msg("metrics of the other generation not understood")
	}
	if m.Want {
		return func() { _, _ = x.send(link, handoff.Message{Type: handoff.Metrics, Seq: m.Seq}) }
	}
	if m.Seq > x.heard {
		x.heard = m.Seq
		close(x.news)
		x.news = make(chan struct{})
	}
	return nil
}
