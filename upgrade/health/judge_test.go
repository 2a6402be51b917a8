package health

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answering answers rate requests in each second, the way that answer says, until ctx ends.
func answering(ctx context.Context, w *Window, rate int, answer func(n int) (status int, latency time.Duration)) {
	t := time.NewTicker(time.Second / time.Duration(rate))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			status, latency := answer(n)
			w.Observe(status, latency, false)
		}
	}
}

func good(int) (int, time.Duration) { return 200, 20 * time.Millisecond }

func mustRules(t testing.TB, texts ...string) []Rule {
	t.Helper()
	rules, err := ParseRules(texts...)
	require.NoError(t, err)
	return rules
}

func TestJudge(t *testing.T) {
	oldFigures := func(over time.Duration) (Snapshot, bool) {
		return Snapshot{Over: over, Requests: 500, Successes: 500, P95: 25 * time.Millisecond}, true
	}
	for _, tt := range []struct {
		name    string
		rate    int
		answer  func(n int) (int, time.Duration)
		rules   []string
		strict  bool
		verdict Verdict
		passed  bool
		reason  string
		took    time.Duration
	}{
		{"healthy", 20, good, []string{"success >= 99%", "p95 <= 1.5x old", "memory <= 1GiB"}, false, Healthy, true, "every rule is kept", 30 * time.Second},
		{
			"fails after 20 s", 20, func(n int) (int, time.Duration) {
				if n > 400 {
					return 503, time.Millisecond
				}
				return good(n)
			},
			[]string{"panics <= 0", "success >= 90%"},
			false, Broken, false, "less than the 90 % required", 21*time.Second + 250*time.Millisecond,
		},
		{
			"slower than old", 20, func(int) (int, time.Duration) { return 200, 60 * time.Millisecond },
			[]string{"p95 <= 1.5x old min 50"},
			false, Broken, false, "more than 1.5 x the old generation's 25 ms (37.5 ms allowed)", 2500 * time.Millisecond,
		},
		{"silent", 0, nil, []string{"success >= 99%", "memory <= 1GiB"}, false, Unknown, true, "passed without being sure: success is not known yet: 0 requests in 10 s, at least 50 wanted", 30 * time.Second},
		{"silent, strict", 0, nil, []string{"success >= 99%"}, true, Unknown, false, "success is not known yet: 0 requests in 10 s", 30 * time.Second},
		{"one of three", 1, func(n int) (int, time.Duration) { return 200 + 300*(n%3/2), time.Millisecond }, []string{"success >= 99%"}, false, Unknown, true, "passed without being sure", 30 * time.Second},
		{"no rules", 0, nil, nil, true, Healthy, true, "every rule is kept", 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWindow(0)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.rate > 0 {
					go answering(ctx, w, tt.rate, tt.answer)
				}
				ticks := 0
				start := time.Now()
				rep, err := Judge{
					Rules: mustRules(t, tt.rules...), Phase: 30 * time.Second, Own: w.Snapshot, Old: oldFigures, Strict: tt.strict,
					Progress: func(Report) { ticks++ },
				}.Run(ctx)
				require.NoError(t, err)
				assert.Equal(t, tt.verdict, rep.Verdict, "%s", rep.Reason)
				assert.Equal(t, tt.passed, rep.Passed)
				assert.Contains(t, rep.Reason, tt.reason)
				assert.InDelta(t, tt.took, time.Since(start), float64(DefaultTick))
				assert.Equal(t, rep.Took, time.Since(start))
				assert.Len(t, rep.Rules, len(tt.rules))
				assert.InDelta(t, int(tt.took/DefaultTick), ticks, 2)
			})
		})
	}
}

func TestJudgeProbe(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answer  func(since time.Duration) string // what is wrong
		verdict Verdict
		reason  string
		took    time.Duration
	}{
		{"never fails", func(time.Duration) string { return "" }, Healthy, "every rule is kept", 20 * time.Second},
		{"fails twice", func(d time.Duration) string {
			if d > 4*time.Second && d < 5500*time.Millisecond {
				return "busy"
			}
			return ""
		}, Healthy, "every rule is kept", 20 * time.Second},
		{"fails from 4 s on", func(d time.Duration) string {
			if d >= 4*time.Second {
				return "lost"
			}
			return ""
		}, Broken, "probe lost and found failed 3 times in 10 s, 2 allowed: lost", 6 * time.Second},
		{"fails now and then", func(d time.Duration) string {
			if d.Round(time.Second)%(6*time.Second) == 0 {
				return "now"
			}
			return ""
		}, Healthy, "every rule is kept", 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				p := &Probe{Name: "lost and found", Check: Func(func(context.Context) error {
					if s := tt.answer(time.Since(start)); s != "" {
						return errors.New(s)
					}
					return nil
				})}
				rep, err := Judge{Rules: []Rule{ProbeRule(p, 3)}, Phase: 20 * time.Second, Own: NewWindow(0).Snapshot}.Run(t.Context())
				require.NoError(t, err)
				assert.Equal(t, tt.verdict, rep.Verdict)
				assert.Equal(t, tt.reason, rep.Reason)
				assert.InDelta(t, tt.took, rep.Took, float64(DefaultTick))
			})
		})
	}
}

// A probe that hangs holds up neither the ticks nor the end.
func TestJudgeHangingProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		j := Judge{Rules: mustRules(t, "probe http GET / fails < 3"), Phase: 4 * time.Second, Self: h, Own: NewWindow(0).Snapshot}
		rep, err := j.Run(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "passed without being sure: probe http GET / has not answered yet", rep.Reason)
		assert.Equal(t, 4*time.Second, rep.Took)

		j.Phase = time.Minute
		rep, err = j.Run(t.Context())
		require.NoError(t, err)
		assert.Equal(t, Broken, rep.Verdict)
	})
}

func TestJudgeCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("stop")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(3*time.Second, func() { cancel(cause) })
		rep, err := Judge{Rules: mustRules(t, "panics <= 0"), Phase: time.Minute, Own: NewWindow(0).Snapshot}.Run(ctx)
		assert.ErrorIs(t, err, cause)
		assert.False(t, rep.Passed)
		assert.Equal(t, 3*time.Second, rep.Took)
		assert.Len(t, rep.Rules, 1)
	})
	rep, err := Judge{Rules: mustRules(t, "panics <= 0")}.Run(t.Context())
	require.NoError(t, err)
	assert.True(t, rep.Passed)
}
