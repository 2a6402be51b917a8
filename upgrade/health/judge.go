package health

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// DefaultTick is how often a [Judge] looks.
const DefaultTick = 250 * time.Millisecond

// Judge watches a process for a phase of an upgrade, the canary or the probation,
// and says whether it is fit to go on.
type Judge struct {
	Rules []Rule
	Phase time.Duration // how long to watch; 0: not at all, and it passes

	// Own gives the figures of the process that is judged: [Window.Snapshot]. The
	// window must be as long as [Longest] of the rules. A rule that looks back further
	// than the phase has lasted also sees what came before it.
	Own func(over time.Duration) Snapshot

	// Old gives the old generation's figures over the same time, or false while they
	// are not known. It must not wait: what travels is asked for elsewhere. While
	// the old generation gets no traffic, that is what it had when it last did. May be
	// nil.
	Old func(over time.Duration) (Snapshot, bool)

	Self http.Handler  // what probes without an address ask
	Tick time.Duration // default 250 ms

	// Strict makes a phase fail whose end finds a rule still Unknown. Default: it
	// passes with a note, since a service at night has no traffic to be judged by.
	Strict bool

	// Progress, if set, is told at every tick, from the goroutine of Run.
	Progress func(Report)
}

// Report is what a [Judge] found.
type Report struct {
	Verdict Verdict       `json:"verdict"` // the worst of the rules; Unknown is worse than Healthy
	Passed  bool          `json:"passed"`
	Reason  string        `json:"reason"` // of the rule that decided, or a note why Unknown passed
	Took    time.Duration `json:"took_ns"`
	Rules   []Result      `json:"rules"`
}

// Run watches for the phase, or until a rule is Broken. The report has the last
// figures of every rule. The error is non-nil only if ctx ended before, which is
// no verdict: it is the cause of that, and Passed is false.
func (j Judge) Run(ctx context.Context) (Report, error) {
	if j.Phase <= 0 {
		return Report{Verdict: Unknown, Passed: true, Reason: "nothing was watched: the phase is off", Rules: []Result{}}, nil
	}
	if j.Tick <= 0 {
		j.Tick = DefaultTick
	}
	start := time.Now()
	watching, stop := context.WithCancel(ctx)
	watches := make([]*watch, len(j.Rules))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i, r := range j.Rules {
		if r.probe != nil {
			watches[i] = &watch{rule: r, self: j.Self}
			running.Go(func() { watches[i].run(watching) })
		}
	}
	end, tick := time.NewTimer(j.Phase), time.NewTicker(j.Tick)
	defer end.Stop()
	defer tick.Stop()
	for {
		over := false
		select {
		case <-ctx.Done():
		case <-end.C:
			over = true
		case <-tick.C:
		}
		rep := j.look(watches, time.Since(start))
		if ctx.Err() != nil {
			rep.Passed = false
			return rep, fmt.Errorf("health: judge: %w", context.Cause(ctx))
		}
		if over {
			rep.Passed = rep.Verdict == Healthy || rep.Verdict == Unknown && !j.Strict
			if rep.Verdict == Unknown && rep.Passed {
				rep.Reason = "passed without being sure: " + rep.Reason
			}
		}
		if j.Progress != nil {
			j.Progress(rep)
		}
		if over || rep.Verdict == Broken {
			return rep, nil
		}
	}
}

// look applies every rule once.
func (j Judge) look(watches []*watch, took time.Duration) Report {
	rep := Report{Verdict: Healthy, Reason: "every rule is kept", Took: took, Rules: make([]Result, len(j.Rules))}
	own := map[time.Duration]Snapshot{} // one for all rules that look back equally long
	for i, r := range j.Rules {
		res := &rep.Rules[i]
		if watches[i] != nil {
			*res = watches[i].judge(time.Now())
		} else {
			s, ok := own[r.over]
			if !ok {
				s = j.Own(r.over)
				own[r.over] = s
			}
			*res = r.Judge(s, j.old(r))
		}
		if res.Verdict == Broken && rep.Verdict != Broken || res.Verdict == Unknown && rep.Verdict == Healthy {
			rep.Verdict, rep.Reason = res.Verdict, res.Reason
		}
	}
	return rep
}

func (j Judge) old(r Rule) *Snapshot {
	if j.Old == nil || !r.Compares() {
		return nil
	}
	s, ok := j.Old(r.over)
	if !ok {
		return nil
	}
	return &s
}
