package load

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets as in HdrHistogram: below 32 µs one for each microsecond, then 32 for each
// power of two, so that a value is known to 3 %. The last one takes all from 2³¹ µs,
// 36 minutes, on.
const (
	subBits    = 5
	subBuckets = 1 << subBits
	maxBits    = 31
	buckets    = (maxBits-subBits)*subBuckets + subBuckets
)

// histogram is filled by many workers at once.
type histogram struct {
	counts [buckets]atomic.Int64
	max    atomic.Int64 // nanoseconds
}

func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)].Add(1)
	for {
		most := h.max.Load()
		if int64(d) <= most || h.max.CompareAndSwap(most, int64(d)) {
			return
		}
	}
}

func bucketOf(d time.Duration) int {
	us := uint64(d.Microseconds()) //nolint:gosec // not negative
	if us < subBuckets {
		return int(us) //nolint:gosec // below 32
	}
	shift := bits.Len64(us) - subBits - 1
	return min((shift+1)*subBuckets+int(us>>shift)-subBuckets, buckets-1) //nolint:gosec // the quotient is below 64
}

// bucketEnd is the largest value that falls into a bucket.
func bucketEnd(i int) time.Duration {
	if i < subBuckets {
		return time.Duration(i+1)*time.Microsecond - 1
	}
	shift := i/subBuckets - 1
	return time.Duration(i%subBuckets+subBuckets+1)<<shift*time.Microsecond - 1
}

func (h *histogram) snapshot() Latency {
	l := Latency{max: time.Duration(h.max.Load())}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			if l.counts == nil {
				l.counts = make([]int64, buckets)
			}
			l.counts[i] = n
		}
	}
	return l
}

// Latency is how long answered requests took, from the dial or the first byte sent
// to the last byte read, less the time they were asked to take (Workload.Duration).
// The zero value has no requests.
type Latency struct {
	counts []int64 // nil: none
	max    time.Duration
}

// Count is the number of requests.
func (l Latency) Count() int64 {
	var n int64
	for _, c := range l.counts {
		n += c
	}
	return n
}

// Max is the longest time, exactly.
func (l Latency) Max() time.Duration { return l.max }

// Quantile is the time that the share q of the requests, from 0 to 1, did not
// exceed, 3 % too much at most; 0 if there are none.
func (l Latency) Quantile(q float64) time.Duration {
	rank := max(int64(q*float64(l.Count())+0.999999), 1)
	for i, c := range l.counts {
		if rank -= c; rank <= 0 {
			return min(bucketEnd(i), l.max)
		}
	}
	return l.max
}

// Add is both together; l and o stay as they are.
func (l Latency) Add(o Latency) Latency {
	sum := Latency{max: max(l.max, o.max)}
	for _, counts := range [][]int64{l.counts, o.counts} {
		if counts != nil && sum.counts == nil {
			sum.counts = make([]int64, buckets)
		}
		for i, n := range counts {
			sum.counts[i] += n
		}
	}
	return sum
}
