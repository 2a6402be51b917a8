package health

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// The histogram of latencies: buckets of 1 µs up to 16 µs, then 16 to each power of
// two up to 2^27 µs, which is 134 seconds; what is longer is in the last. The middle
// of a bucket is thus at most 1/32 of the value away from it, or half a microsecond.
// It is the layout of HdrHistogram with fewer digits.
const (
	subBits = 4
	sub     = 1 << subBits
	topBit  = 26
	buckets = (topBit - subBits + 2) * sub
)

// bucketOf gives the bucket of a latency.
func bucketOf(d time.Duration) int {
	if d < 0 {
		d = 0
	}
	v := uint64(d / time.Microsecond)
	if v < sub {
		return int(v)
	}
	e := bits.Len64(v) - 1
	if e > topBit {
		return buckets - 1
	}
	return (e-subBits+1)*sub + int(v>>(e-subBits))&(sub-1)
}

// middleOf gives the latency in the middle of a bucket.
func middleOf(i int) time.Duration {
	if i < sub {
		return time.Duration(i)*time.Microsecond + time.Microsecond/2
	}
	shift := i/sub - 1
	low := uint64(sub+i%sub) << shift
	return time.Duration(low)*time.Microsecond + time.Duration(1<<shift)*time.Microsecond/2
}

// counts is what has been counted. It only grows: a window is the difference of two
// of them, which 32 bits give also after an overflow.
type counts struct {
	failures, panics uint32
	latency          [buckets]uint32
}

// shard is a part of the counters, so that processors do not wait for each other's
// cache lines.
type shard struct {
	failures, panics atomic.Uint32
	latency          [buckets]atomic.Uint32
	_                [64]byte
}

func (s *shard) addTo(c *counts) {
	// Failures first: one that is counted meanwhile must not be without its request.
	c.failures += s.failures.Load()
	c.panics += s.panics.Load()
	for i := range s.latency {
		c.latency[i] += s.latency[i].Load()
	}
}

// since makes c the difference to an earlier one.
func (c *counts) since(base *counts) {
	c.failures -= base.failures
	c.panics -= base.panics
	for i := range c.latency {
		c.latency[i] -= base.latency[i]
	}
}

func (c *counts) requests() uint64 {
	var n uint64
	for _, k := range c.latency {
		n += uint64(k)
	}
	return n
}

// quantile gives the latency that the fraction q of the requests does not exceed
// (nearest rank), with the error of the buckets; 0 without requests.
func (c *counts) quantile(q float64, requests uint64) time.Duration {
	if requests == 0 {
		return 0
	}
	rank := uint64(q * float64(requests))
	if float64(rank) < q*float64(requests) || rank == 0 {
		rank++
	}
	var n uint64
	for i, k := range c.latency {
		if n += uint64(k); n >= rank {
			return middleOf(i)
		}
	}
	return middleOf(buckets - 1)
}

// figures are what the counters say by themselves.
func (c *counts) figures() Snapshot {
	n := c.requests()
	failures := min(uint64(c.failures), n) // one may be counted in the instant between
	return Snapshot{
		Requests: n, Successes: n - failures, Panics: uint64(c.panics),
		P50: c.quantile(0.50, n), P95: c.quantile(0.95, n), P99: c.quantile(0.99, n),
	}
}
