package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLaps(t *testing.T) {
	w := NewWindow(time.Minute)
	w.Observe(200, time.Second, false) // before the first look
	l := w.Laps()
	require.Zero(t, l.Next().Requests)

	for range 99 {
		w.Observe(200, 10*time.Millisecond, false)
	}
	w.Observe(500, 20*time.Millisecond, true)
	s := l.Next()
	require.EqualValues(t, []uint64{100, 99, 1}, []uint64{s.Requests, s.Successes, s.Panics})
	require.InEpsilon(t, float64(10*time.Millisecond), float64(s.P95), 0.04)
	require.Positive(t, s.Over)
	require.EqualValues(t, CPUUnknown, s.CPU)

	s = l.Next()
	require.Zero(t, s.Requests)
	require.Zero(t, s.P95)
}

// A handler that panics after its answer has begun to leave fails later.
func TestLapsKeepALateFailure(t *testing.T) {
	w := NewWindow(time.Minute)
	l := w.Laps()
	w.shards[0].failures.Add(2)
	s := l.Next()
	require.Zero(t, s.Requests-s.Successes)
	w.Observe(200, time.Millisecond, false)
	w.Observe(200, time.Millisecond, false)
	w.Observe(200, time.Millisecond, false)
	s = l.Next()
	require.EqualValues(t, 2, s.Requests-s.Successes)
	require.Zero(t, l.Next().Requests)
}

func BenchmarkLap(b *testing.B) {
	l := NewWindow(time.Minute).Laps()
	b.ReportAllocs()
	for b.Loop() {
		l.Next()
	}
}
