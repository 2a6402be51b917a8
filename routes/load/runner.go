package load

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// Runner runs workloads side by side, once.
type Runner struct {
	prefix    string
	workloads []Workload
	counters  []*counters // of the workload with the same index
	workers   []*worker
	phase     atomic.Int32

	cancel context.CancelFunc
	group  sync.WaitGroup
}

// New prepares a run. It fails if a workload cannot be run as it is described.
func New(workloads ...Workload) (*Runner, error) {
	if len(workloads) == 0 {
		return nil, errors.New("load: no workload")
	}
	// Short, as it is in every request; random, so that runs can share a log.
	r := &Runner{prefix: strings.ToLower(rand.Text()[:8])}
	names := make(map[string]bool)
	for _, w := range workloads {
		w = w.withDefaults()
		if err := w.check(); err != nil {
			return nil, fmt.Errorf("load: workload %q %w", w.Name, err)
		}
		if names[w.Name] {
			return nil, fmt.Errorf("load: two workloads have the name %q", w.Name)
		}
		names[w.Name] = true
		n := &counters{}
		for range w.Conns {
			one := &worker{
				Workload: w, n: n, phase: &r.phase, prefix: r.prefix, index: len(r.workers), host: hostOf(w.Addr),
			}
			if w.Kind == Chat {
				one.join()
			}
			r.workers = append(r.workers, one)
		}
		r.workloads = append(r.workloads, w)
		r.counters = append(r.counters, n)
	}
	return r, nil
}

func hostOf(addr Addr) string {
	if addr.Network == "unix" {
		return "localhost"
	}
	return addr.Address
}

// Start begins the run, which ends when ctx does, when Stop is called, or when every
// workload has sent its MaxRequests. Call it once, and Stop or Wait after it.
func (r *Runner) Start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	for _, w := range r.workers {
		r.group.Go(func() { w.run(ctx) })
	}
}

// Stop ends the run and returns what came of it. Each worker finishes the request at
// hand first, which takes that request's timeout at most. Later calls return the same.
func (r *Runner) Stop() Tally {
	r.cancel()
	return r.Wait()
}

// Wait waits for the end of the run and returns what came of it.
func (r *Runner) Wait() Tally {
	r.group.Wait()
	r.cancel()
	t := r.Snapshot()
	for _, w := range r.workers {
		if !w.Kind.socket() {
			t.Ranges = append(t.Ranges, Range{w.Name, w.prefix, w.index, w.seq, w.failed})
		}
	}
	return t
}

// SetPhase says what is happening to the server from now on.
func (r *Runner) SetPhase(p Phase) { r.phase.Store(int32(p)) }

// Snapshot is the run so far. It may be called at any time.
func (r *Runner) Snapshot() Tally {
	t := Tally{Workloads: make(map[string]Counts, len(r.workloads))}
	for i, w := range r.workloads {
		t.Workloads[w.Name] = r.counters[i].snapshot()
		t.Examples = append(t.Examples, r.counters[i].exampleList()...)
	}
	return t
}

// Run is New, Start and Wait.
func Run(ctx context.Context, workloads ...Workload) (Tally, error) {
	r, err := New(workloads...)
	if err != nil {
		return Tally{}, err
	}
	r.Start(ctx)
	return r.Wait(), nil
}
