package health

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// watch asks the probe of one rule during a phase, and keeps the tally.
type watch struct {
	rule Rule
	self http.Handler

	mu        sync.Mutex // guards what follows
	failures  []time.Time
	tries     int // in the whole phase
	successes int
	reason    error // of the last failure
}

// run asks until ctx ends.
func (w *watch) run(ctx context.Context) {
	t := time.NewTicker(DefaultProbeInterval)
	defer t.Stop()
	for {
		err := w.rule.probe.Run(ctx, w.self)
		if ctx.Err() != nil {
			return // the phase is over; what the probe says now is about that
		}
		w.note(err, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (w *watch) note(err error, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if err == nil {
		w.successes++
		return
	}
	w.reason = err
	w.failures = append(w.forget(now), now)
}

// forget drops the failures that are too old to count. w.mu is held.
func (w *watch) forget(now time.Time) []time.Time {
	for len(w.failures) > 0 && now.Sub(w.failures[0]) > w.rule.over {
		w.failures = w.failures[1:]
	}
	return w.failures
}

// judge applies the rule to the tally.
func (w *watch) judge(now time.Time) Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = w.forget(now)
	n, p := len(w.failures), w.rule.probe
	value, allowed := float64(n), float64(w.rule.fails-1)
	res := Result{Rule: w.rule.String(), Unit: w.rule.metric.unit, Value: &value, Allowed: &allowed}
	switch {
	case n >= w.rule.fails:
		return res.as(Broken, fmt.Sprintf("probe %s failed %s in %s, %d allowed: %v", p, times(n), seconds(w.rule.over), w.rule.fails-1, w.reason))
	case w.tries == 0:
		res.Value = nil
		return res.as(Unknown, fmt.Sprintf("probe %s has not answered yet", p))
	case w.successes == 0:
		return res.as(Unknown, fmt.Sprintf("probe %s has not succeeded yet: %v", p, w.reason))
	case n > 0:
		return res.as(Healthy, fmt.Sprintf("probe %s failed %s in %s, %d allowed: %v", p, times(n), seconds(w.rule.over), w.rule.fails-1, w.reason))
	}
	return res.as(Healthy, fmt.Sprintf("probe %s did not fail in %s", p, seconds(w.rule.over)))
}
