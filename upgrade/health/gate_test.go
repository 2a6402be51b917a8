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

// script is a probe that gives one answer after the other, then the last.
func script(name string, answers ...string) *Probe {
	n := 0
	return &Probe{Name: name, Check: Func(func(context.Context) error {
		a := answers[min(n, len(answers)-1)]
		n++
		if a == "" {
			return nil
		}
		return errors.New(a)
	})}
}

func TestGateOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		start := time.Now()
		g := Gate{
			Probes:   []*Probe{script("a", ""), script("b", "cold", "", "cold again", "", "")},
			Progress: func(r Round) { lines = append(lines, r.String()) },
		}
		require.NoError(t, g.Run(t.Context()))
		assert.Equal(t, 4*DefaultGateInterval, time.Since(start))
		assert.Equal(t, []string{
			"round 1: probe b: cold",
			"round 2 passed, 1 of 2 in a row",
			"round 3: probe b: cold again",
			"round 4 passed, 1 of 2 in a row",
			"round 5 passed, 2 of 2 in a row",
		}, lines)
	})
	require.NoError(t, Gate{}.Run(t.Context()))
}

func TestGateDeadline(t *testing.T) {
	hang := &Probe{Name: "hang", Check: Func(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })}
	slow := &Probe{Name: "slow", Check: Func(func(context.Context) error { time.Sleep(600 * time.Millisecond); return nil })}
	for _, tt := range []struct {
		name string
		gate Gate
		want string
	}{
		{"fails", Gate{Interval: 400 * time.Millisecond, Probes: []*Probe{script("a", ""), script("db", "refused", "no such table")}}, "health: gate: probe db: no such table (tried 38 times in 15 s, failed 38 times)"},
		{"flaps", Gate{Deadline: time.Second, Interval: 300 * time.Millisecond, Probes: []*Probe{script("db", "", "first", "", "second", "")}}, "health: gate: probe db: second (tried 4 times in 1 s, failed 2 times)"},
		{"hangs", Gate{Probes: []*Probe{hang}, Deadline: 3 * time.Second}, "health: gate: probe hang: no answer before the deadline (tried once in 3 s, failed 0 times)"},
		{"hangs on", Gate{Probes: []*Probe{hang}, Deadline: 12 * time.Second}, "health: gate: probe hang: no answer within 5 s (tried 3 times in 12 s, failed 2 times)"},
		{"late", Gate{Probes: []*Probe{slow}, Deadline: 700 * time.Millisecond}, "health: gate: probe slow: 1 of 2 rounds had passed when the time was up (tried once in 700 ms, failed 0 times)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := tt.gate.Run(t.Context())
				assert.EqualError(t, err, tt.want)
				var ge *GateError
				require.ErrorAs(t, err, &ge)
				assert.Equal(t, ge.Deadline, time.Since(start))
			})
		})
	}
}

func TestGateCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the old generation said no")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		start := time.Now()
		err := Gate{Probes: []*Probe{script("a", "bad")}}.Run(ctx)
		assert.ErrorIs(t, err, cause)
		var ge *GateError
		assert.False(t, errors.As(err, &ge))
		assert.Equal(t, time.Second, time.Since(start))
	})
}

func TestGateAsksTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if time.Since(start) < 2*time.Second {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		require.NoError(t, Gate{Probes: []*Probe{mustProbe(t, "http GET /readyz")}, Self: h}.Run(t.Context()))
		assert.Equal(t, 2200*time.Millisecond, time.Since(start))
	})
}
