package health

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// slots is how finely the length of a window is divided: 250 ms of a minute.
const slots = 240

// Bounds of the length of a [Window].
const (
	DefaultWindow = time.Minute
	MaxWindow     = time.Hour
)

// maxShards bounds the memory of a window; the middleware keeps one shard to a
// processor as long as there are enough.
const maxShards = 16

// Window counts what a service has answered, for as long as it serves, and gives the
// figures of the last so many seconds. All methods may be called at the same time.
// It takes about 400 KB and starts no goroutine.
//
// The counters only grow. At the first request of each slot (a 240th of the length)
// they are copied into a ring, so that a look at the last d is the difference
// between now and the copy of that time.
type Window struct {
	length, width time.Duration
	epoch         time.Time
	shards        []shard
	slot          atomic.Int64 // of the newest sample

	mu      sync.Mutex // guards what follows
	ring    []sample   // by slot modulo its length
	newest  *sample
	before  *sample // the one before newest
	scratch counts
}

// sample is a copy of the counters, taken before the first request of a slot.
type sample struct {
	slot int64
	at   time.Duration // since the window's epoch
	cpu  time.Duration
	counts
}

// NewWindow makes a window that can look back for length. Default [DefaultWindow];
// at most [MaxWindow]. [Longest] gives what a set of rules needs.
func NewWindow(length time.Duration) *Window {
	if length <= 0 {
		length = DefaultWindow
	}
	length = max(time.Second, min(length, MaxWindow))
	n := 1
	for n < min(runtime.GOMAXPROCS(0), maxShards) {
		n *= 2
	}
	w := &Window{
		length: length, width: length / slots, epoch: time.Now(),
		shards: make([]shard, n), ring: make([]sample, slots+2),
	}
	w.slot.Store(-1)
	w.record(0, 0)
	return w
}

// Length is how far the window can look back.
func (w *Window) Length() time.Duration { return w.length }

// Observe counts a request that was answered with status after latency. It is a
// failure if the status is 500 or more, or panicked is set. It allocates nothing.
func (w *Window) Observe(status int, latency time.Duration, panicked bool) {
	// The generator is per thread and takes no lock; there is no cheaper way to
	// spread callers that have nothing of their own.
	s := &w.shards[rand.Uint32()&uint32(len(w.shards)-1)]
	w.observe(s, time.Since(w.epoch), status, latency, panicked)
}

// observe is Observe at the time now, into a shard.
func (w *Window) observe(s *shard, now time.Duration, status int, latency time.Duration, panicked bool) {
	if slot := int64(now / w.width); slot > w.slot.Load() && w.mu.TryLock() {
		w.record(slot, now) // without the lock, somebody is at it
		w.mu.Unlock()
	}
	s.latency[bucketOf(latency)].Add(1)
	if status >= 500 || panicked {
		s.failures.Add(1)
	}
	if panicked {
		s.panics.Add(1)
	}
}

// record puts a copy of the counters into the ring. w.mu is held.
func (w *Window) record(slot int64, now time.Duration) {
	if w.newest != nil && slot <= w.newest.slot {
		return
	}
	s := &w.ring[slot%int64(len(w.ring))]
	if s == w.before {
		w.before = nil
	}
	*s = sample{slot: slot, at: now, cpu: cpuTime()}
	w.sum(&s.counts)
	if s != w.newest {
		w.before = w.newest
	}
	w.newest = s
	w.slot.Store(slot)
}

func (w *Window) sum(c *counts) {
	for i := range w.shards {
		w.shards[i].addTo(c)
	}
}

// Snapshot gives the figures of the last so many seconds, at most the window's
// length, rounded up to whole slots.
func (w *Window) Snapshot(over time.Duration) Snapshot {
	over = max(w.width, min(over, w.length))
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.epoch)
	slot := int64(now / w.width)
	w.record(slot, now)
	base := w.newest
	for i := max(0, int64((now-over)/w.width)); i < slot; i++ {
		// A slot without a sample had no request: the next one has the same counters.
		if s := &w.ring[i%int64(len(w.ring))]; s.slot == i {
			base = s
			break
		}
	}
	c := &w.scratch
	*c = counts{}
	w.sum(c)
	c.since(&base.counts)

	snap := c.figures()
	snap.Over, snap.At = min(over, now), time.Now()
	snap.Memory, snap.CPU, snap.Goroutines = residentMemory(), w.cpuShare(base, now), runtime.NumGoroutine()
	return snap
}

// minSpan is the shortest time over which a share of a processor means anything.
const minSpan = 50 * time.Millisecond

// cpuShare gives the processor time since base, or since the sample before it where
// base is too young, as a share of one core.
func (w *Window) cpuShare(base *sample, now time.Duration) float64 {
	if now-base.at < minSpan && base == w.newest && w.before != nil {
		base = w.before
	}
	span := now - base.at
	if span < minSpan {
		return CPUUnknown
	}
	return max(0, float64(cpuTime()-base.cpu)/float64(span))
}
