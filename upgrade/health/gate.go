package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Defaults of [Gate].
const (
	DefaultInARow       = 2
	DefaultGateInterval = 200 * time.Millisecond
	DefaultGateDeadline = 15 * time.Second
)

// Gate is what a process must pass before it may take traffic: all its probes,
// several times in a row.
type Gate struct {
	Probes []*Probe     // none: it passes at once
	Self   http.Handler // what HTTP probes without an address ask

	// InARow is how many rounds must pass without a failure between. Default 2: once
	// may be luck.
	InARow int
	// Interval is the pause between two rounds. Default 200 ms.
	Interval time.Duration
	// Deadline bounds the whole. Default 15 seconds.
	Deadline time.Duration

	// Progress, if set, is told of every round, from the goroutine of Run.
	Progress func(Round)
}

// Round is one round of a [Gate].
type Round struct {
	Number int           // from 1
	Passed int           // in a row, with this one
	Wanted int           // in a row
	Took   time.Duration // since the gate began
	Probe  *Probe        // the one that failed; nil in a round that passed
	Reason error         // why it did
}

// String gives a line for a person.
func (r Round) String() string {
	if r.Probe == nil {
		return fmt.Sprintf("round %d passed, %d of %d in a row", r.Number, r.Passed, r.Wanted)
	}
	return fmt.Sprintf("round %d: probe %s: %v", r.Number, r.Probe, r.Reason)
}

// GateError says why a gate did not open before its deadline.
type GateError struct {
	Probe    *Probe        // the one that failed last, or that ran at the deadline
	Reason   error         // its last reason
	Tries    int           // how often it was asked
	Failures int           // how often it failed
	Deadline time.Duration // of the gate
}

// Error names the probe, its last reason and how often it was asked.
func (e *GateError) Error() string {
	return fmt.Sprintf("health: gate: probe %s: %v (tried %s in %s, failed %s)",
		e.Probe, e.Reason, times(e.Tries), seconds(e.Deadline), times(e.Failures))
}

// Unwrap gives the reason.
func (e *GateError) Unwrap() error { return e.Reason }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return thousands(uint64(n)) + " times"
}

// Run asks until the gate opens, which is nil; until the deadline, which is a
// [*GateError]; or until ctx ends, which is its cause. The probes of a round are
// asked one after the other, and the first failure ends the round: it is lost, and
// what comes later often depends on what came before.
func (g Gate) Run(ctx context.Context) error {
	if len(g.Probes) == 0 {
		return nil
	}
	g.defaults()
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, g.Deadline)
	defer cancel()

	tries, failures := make([]int, len(g.Probes)), make([]int, len(g.Probes))
	failed := -1 // the probe that failed last, and why
	var reason error
	late := func(i int) error {
		if failed >= 0 {
			i = failed // a failure that was seen says more than the probe that happened to run
		} else {
			reason = errors.New("no answer before the deadline")
		}
		return &GateError{g.Probes[i], reason, tries[i], failures[i], g.Deadline}
	}
	pause := time.NewTimer(0)
	defer pause.Stop()
	for round := (Round{Wanted: g.InARow}); ; {
		select {
		case <-limited.Done():
		case <-pause.C:
		}
		round.Number, round.Probe, round.Reason = round.Number+1, nil, nil
		for i, p := range g.Probes {
			if ctx.Err() != nil {
				return fmt.Errorf("health: gate: %w", context.Cause(ctx))
			}
			if limited.Err() != nil {
				if failed < 0 {
					failed, reason = i, fmt.Errorf("%d of %d rounds had passed when the time was up", round.Passed, g.InARow)
				}
				return late(i)
			}
			tries[i]++
			err := p.Run(limited, g.Self)
			if err == nil {
				continue
			}
			if limited.Err() != nil {
				if ctx.Err() != nil {
					return fmt.Errorf("health: gate: %w", context.Cause(ctx))
				}
				return late(i)
			}
			failures[i]++
			failed, reason = i, err
			round.Probe, round.Reason = p, err
			break
		}
		if round.Took = time.Since(start); round.Probe == nil {
			round.Passed++
		} else {
			round.Passed = 0
		}
		if g.Progress != nil {
			g.Progress(round)
		}
		if round.Passed >= g.InARow {
			return nil
		}
		pause.Reset(g.Interval)
	}
}

func (g *Gate) defaults() {
	if g.InARow <= 0 {
		g.InARow = DefaultInARow
	}
	if g.Interval <= 0 {
		g.Interval = DefaultGateInterval
	}
	if g.Deadline <= 0 {
		g.Deadline = DefaultGateDeadline
	}
}
