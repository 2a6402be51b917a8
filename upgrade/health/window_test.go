package health

import (
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBucket(t *testing.T) {
	last := -1
	for v := time.Duration(0); v < 400*time.Second; v += max(time.Microsecond, v/100) {
		i := bucketOf(v)
		require.GreaterOrEqual(t, i, last)
		require.Less(t, i, buckets)
		if last = i; i < buckets-1 {
			require.LessOrEqual(t, math.Abs(float64(middleOf(i)-v)), math.Max(float64(v)/32, 500)+1, "%s", v)
		}
	}
	assert.Equal(t, buckets-1, last)
	assert.Equal(t, buckets-1, bucketOf(math.MaxInt64))
	assert.Equal(t, 0, bucketOf(-time.Second))
	for i := range buckets {
		require.Equal(t, i, bucketOf(middleOf(i)))
	}
}

// The quantiles of the histogram against those of the sorted sample.
func TestQuantiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n := 1 + r.IntN(3000)
		spread := 1 + 5*r.Float64()
		var c counts
		sample := make([]time.Duration, n)
		for i := range sample {
			sample[i] = time.Duration(math.Pow(10, 3+spread*r.Float64()))
			c.latency[bucketOf(sample[i])]++
		}
		slices.Sort(sample)
		require.EqualValues(t, n, c.requests())
		for _, q := range []float64{0.5, 0.95, 0.99, 1} {
			exact := sample[int(math.Ceil(q*float64(n)))-1]
			got := c.quantile(q, uint64(n))
			// Truncation to whole microseconds comes on top.
			require.LessOrEqual(t, math.Abs(float64(got-exact)), float64(exact)/32+1000, "%d values, quantile %v: %s, exactly %s", n, q, got, exact)
		}
	}
	assert.Zero(t, (&counts{}).quantile(0.5, 0))
}

func TestWindowSlides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWindow(time.Minute)
		assert.Zero(t, w.Snapshot(10*time.Second).Requests)
		for range 30 { // 10 requests in each second, one of which fails
			for i := range 10 {
				w.Observe(map[bool]int{true: 500, false: 200}[i == 0], time.Duration(i+1)*time.Millisecond, false)
				time.Sleep(100 * time.Millisecond)
			}
		}
		time.Sleep(time.Millisecond) // past the border of a slot: what it covers is rounded up to that
		for _, over := range []int{1, 5, 10, 20} {
			s := w.Snapshot(time.Duration(over) * time.Second)
			assert.InDelta(t, 10*over, s.Requests, 3, "over %d s", over)
			assert.InDelta(t, 9*over, s.Successes, 3)
			assert.InDelta(t, 5*time.Millisecond, s.P50, float64(time.Millisecond))
			assert.InDelta(t, 10*time.Millisecond, s.P99, float64(time.Millisecond/2))
			assert.Equal(t, time.Duration(over)*time.Second, s.Over)
		}
		s := w.Snapshot(time.Hour)
		assert.EqualValues(t, 300, s.Requests)
		assert.InDelta(t, 30*time.Second, s.Over, float64(10*time.Millisecond))

		w.Observe(200, time.Second, true)
		s = w.Snapshot(time.Second)
		assert.EqualValues(t, 1, s.Panics)
		assert.EqualValues(t, 2, s.Requests-s.Successes)

		// Silence empties it, and a request afterwards is alone in it.
		time.Sleep(11 * time.Second)
		assert.Zero(t, w.Snapshot(10*time.Second).Requests)
		time.Sleep(time.Hour)
		w.Observe(200, time.Millisecond, false)
		assert.EqualValues(t, 1, w.Snapshot(time.Minute).Requests)
		time.Sleep(30 * time.Second)
		w.Observe(200, time.Millisecond, false)
		assert.EqualValues(t, 2, w.Snapshot(time.Minute).Requests)
		assert.EqualValues(t, 1, w.Snapshot(10*time.Second).Requests)
	})
}

// A window without a look at it for long, of each length of silence: the ring has old
// samples in all its places.
func TestWindowAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWindow(time.Minute)
		r := rand.New(rand.NewPCG(3, 4))
		var when []time.Time
		for range 2000 {
			time.Sleep(time.Duration(r.ExpFloat64() * float64(2*time.Second)))
			if r.IntN(50) == 0 {
				time.Sleep(time.Duration(r.IntN(200)) * time.Second)
			}
			w.Observe(200, time.Millisecond, false)
			when = append(when, time.Now())
			over := time.Duration(1+r.IntN(60)) * time.Second
			least, most := 0, 0
			for _, at := range when {
				if age := time.Since(at); age <= over {
					least++
					most++
				} else if age <= over+w.width {
					most++
				}
			}
			n := int(w.Snapshot(over).Requests)
			require.GreaterOrEqual(t, n, least)
			require.LessOrEqual(t, n, most)
		}
	})
}

func TestWindowCountsAll(t *testing.T) {
	w := NewWindow(0)
	assert.Equal(t, DefaultWindow, w.Length())
	const each, callers = 20000, 8
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range each {
				w.Observe(200+300*(i&1), time.Duration(i)*time.Microsecond, i%100 == 0)
				if i%1000 == 0 {
					w.Snapshot(time.Second)
				}
			}
		})
	}
	wg.Wait()
	s := w.Snapshot(time.Minute)
	assert.EqualValues(t, each*callers, s.Requests)
	assert.EqualValues(t, callers*each/100, s.Panics)
	assert.EqualValues(t, callers*(each/2-each/100), s.Successes)
}

func TestWindowOfTheProcess(t *testing.T) {
	w := NewWindow(0)
	for start := time.Now(); time.Since(start) < 2*minSpan; {
		_ = make([]byte, 64) // use the processor
	}
	s := w.Snapshot(10 * time.Second)
	assert.Greater(t, s.CPU, 0.0)
	assert.LessOrEqual(t, s.CPU, float64(runtime.NumCPU()+1))
	assert.Positive(t, s.Goroutines)
	if runtime.GOOS == "linux" {
		assert.Greater(t, s.Memory, uint64(1<<20))
		assert.Less(t, s.Memory, uint64(1<<34))
	}
	synctest.Test(t, func(t *testing.T) { // where no time passes
		assert.EqualValues(t, CPUUnknown, NewWindow(0).Snapshot(time.Second).CPU)
	})
}

func BenchmarkObserve(b *testing.B) {
	b.Run("one", func(b *testing.B) {
		w := NewWindow(0)
		b.ReportAllocs()
		for b.Loop() {
			w.Observe(http.StatusOK, 3*time.Millisecond, false)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		w := NewWindow(0)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				w.Observe(http.StatusOK, 3*time.Millisecond, false)
			}
		})
	})
}

func TestObserveDoesNotAllocate(t *testing.T) {
	w := NewWindow(time.Second)
	assert.Zero(t, testing.AllocsPerRun(1000, func() { w.Observe(500, time.Millisecond, true) }))
}

func BenchmarkSnapshot(b *testing.B) {
	w := NewWindow(0)
	for b.Loop() {
		w.Snapshot(10 * time.Second)
	}
}
