package health

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRuleJudge(t *testing.T) {
	own := Snapshot{
		Over: 10 * time.Second, Requests: 1204, Successes: 1170, Panics: 1,
		P50: 90 * time.Millisecond, P95: 480 * time.Millisecond, P99: 1234 * time.Millisecond,
		Memory: 600 << 20, CPU: 0.934, Goroutines: 12345,
	}
	old := Snapshot{
		Over: 10 * time.Second, Requests: 60, Successes: 60,
		P50: 80 * time.Millisecond, P95: 120 * time.Millisecond, P99: 200 * time.Millisecond,
		Memory: 256 << 20, CPU: 0.5, Goroutines: 500,
	}
	few := Snapshot{Over: 2500 * time.Millisecond, Requests: 3, Successes: 2, Panics: 1, P95: time.Second, P99: time.Second, CPU: CPUUnknown}
	for _, tt := range []struct {
		rule    string
		own     Snapshot
		old     *Snapshot
		verdict Verdict
		reason  string
	}{
		{"success >= 99%", own, nil, Broken, "success is 97.17 %, less than the 99 % required, 1,204 requests in 10 s"},
		{"success >= 97%", own, nil, Healthy, "success is 97.17 %, 97 % required, 1,204 requests in 10 s"},
		{"success >= 0.99x old", own, &old, Broken, "success is 97.17 %, less than 0.99 x the old generation's 100 % (99 % required), 1,204 requests in 10 s"},
		{"success >= 0.99x old or 95%", own, &old, Healthy, "success is 97.17 %, 95 % required, which is the limit where the old generation's is 100 %, 1,204 requests in 10 s"},
		{"success >= 99%", few, nil, Unknown, "success is not known yet: 3 requests in 2.5 s, at least 50 wanted"},
		{"success >= 99% min 3", few, nil, Broken, "success is 66.66 %, less than the 99 % required, 3 requests in 2.5 s"},
		{"p95 <= 1.5x old", own, &old, Broken, "p95 is 480 ms, more than 1.5 x the old generation's 120 ms (180 ms allowed), 1,204 requests in 10 s"},
		{"p95 <= 4x old", own, &old, Healthy, "p95 is 480 ms, 480 ms allowed, which is 4 x the old generation's 120 ms, 1,204 requests in 10 s"},
		{"p95 <= 1.5x old or 500ms", own, &old, Healthy, "p95 is 480 ms, 500 ms allowed, which is the limit where the old generation's is 120 ms, 1,204 requests in 10 s"},
		{"p95 <= 1.5x old or 150ms", own, &old, Broken, "p95 is 480 ms, more than 1.5 x the old generation's 120 ms (180 ms allowed), 1,204 requests in 10 s"},
		{"p95 <= 1.5x old", own, nil, Unknown, "p95 is 480 ms, the old generation's is not known yet"},
		{"p95 <= 1.5x old", own, &few, Unknown, "p95 is 480 ms, the old generation's is not known yet: it had 3 requests in 2.5 s, at least 50 wanted"},
		{"p99 <= 1s", own, nil, Broken, "p99 is 1.23 s, more than the 1 s allowed, 1,204 requests in 10 s"},
		{"p99 <= 2s", own, nil, Healthy, "p99 is 1.23 s, 2 s allowed, 1,204 requests in 10 s"},
		{"p50 <= 100ms", Snapshot{}, nil, Unknown, "p50 is not known yet: 0 requests in 0 s, at least 50 wanted"},
		{"panics <= 0", own, nil, Broken, "the number of panics is 1, more than the 0 allowed, 1,204 requests in 10 s"},
		{"panics <= 0 min 100", few, nil, Broken, "the number of panics is 1, more than the 0 allowed, 3 requests in 2.5 s"},
		{"panics <= 0", Snapshot{Over: time.Second}, nil, Unknown, "the number of panics is not known yet: 0 requests in 1 s, at least 1 wanted"},
		{"memory <= 512MiB", own, nil, Broken, "resident memory is 600 MiB, more than the 512 MiB allowed"},
		{"memory <= 2x old", own, &old, Broken, "resident memory is 600 MiB, more than 2 x the old generation's 256 MiB (512 MiB allowed)"},
		{"memory <= 2x old", own, &few, Unknown, "resident memory is 600 MiB, the old generation's is not known"},
		{"memory <= 1GiB", few, nil, Unknown, "resident memory is not known"},
		{"cpu <= 90%", own, nil, Broken, "CPU use is 93.4 %, more than the 90 % allowed, 1,204 requests in 10 s"},
		{"cpu <= 90%", few, nil, Unknown, "CPU use is not known"},
		{"goroutines <= 10000", own, nil, Broken, "the number of goroutines is 12,345, more than the 10,000 allowed"},
		{"goroutines <= 30x old", own, &old, Healthy, "the number of goroutines is 12,345, 15,000 allowed, which is 30 x the old generation's 500"},
		{"goroutines <= 20000 min 10", few, nil, Unknown, "the number of goroutines is not known"},
		{"probe tcp a:1 fails < 3", own, nil, Unknown, "the probe has not been asked"},
	} {
		r, err := ParseRule(tt.rule)
		require.NoError(t, err)
		res := r.Judge(tt.own, tt.old)
		assert.Equal(t, tt.verdict, res.Verdict, tt.rule)
		assert.Equal(t, tt.reason, res.Reason, tt.rule)
	}
}

func TestResultJSON(t *testing.T) {
	r, err := ParseRule("p95 <= 1.5x old")
	require.NoError(t, err)
	s := Snapshot{Over: 10 * time.Second, Requests: 100, P95: 40 * time.Millisecond}
	b, err := json.Marshal(r.Judge(s, &s))
	require.NoError(t, err)
	assert.JSONEq(t, `{"rule":"p95 <= 1.5x old over 10s min 50","verdict":"healthy",
		"reason":"p95 is 40 ms, 60 ms allowed, which is 1.5 x the old generation's 40 ms, 100 requests in 10 s",
		"unit":"ms","value":40,"allowed":60,"old":40,"requests":100}`, string(b))
	var back Result
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, Healthy, back.Verdict)
	assert.Error(t, json.Unmarshal([]byte(`{"verdict":"fine"}`), &back))
}
