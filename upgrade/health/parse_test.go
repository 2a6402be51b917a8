package health

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseRule(t *testing.T) {
	for text, want := range map[string]string{
		"success >= 99% over 10s min 50":            "success >= 99% over 10s min 50",
		"success >= 99.95%":                         "success >= 99.95% over 10s min 50",
		"success >= 0.99x old or 95% min 5":         "success >= 0.99x old or 95% over 10s min 5",
		"p95 <= 1.5x old over 10s min 100":          "p95 <= 1.5x old over 10s min 100",
		"p95 <= 1.5x old or 20ms":                   "p95 <= 1.5x old or 20ms over 10s min 50",
		"p50 <= 1s min 3 over 1m":                   "p50 <= 1s over 1m min 3",
		"p99 <= 300ms":                              "p99 <= 300ms over 10s min 100",
		"  p99\t<=  300ms ":                         "p99 <= 300ms over 10s min 100",
		"panics <= 0":                               "panics <= 0 over 10s min 1",
		"panics <= 2 min 0":                         "panics <= 2 over 10s min 0",
		"memory <= 512MiB":                          "memory <= 512MiB",
		"memory <= 1.5GiB min 10":                   "memory <= 1GiB512MiB min 10",
		"memory <= 2x old or 64MiB":                 "memory <= 2x old or 64MiB",
		"cpu <= 90%":                                "cpu <= 90% over 10s",
		"cpu <= 250% over 30s":                      "cpu <= 250% over 30s",
		"goroutines <= 10000":                       "goroutines <= 10000",
		"goroutines <= 2x old":                      "goroutines <= 2x old",
		"probe http GET /readyz fails < 3":          "probe http GET /readyz fails < 3 over 10s",
		"probe exec a fails within=1s fails < 2":    "probe exec a fails within=1s fails < 2 over 10s",
		`probe tcp a:1 within=1s fails < 1 over 1m`: "probe tcp a:1 within=1s fails < 1 over 1m",
	} {
		r, err := ParseRule(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, r.String())
		again, err := ParseRule(want)
		require.NoError(t, err, want)
		assert.Equal(t, want, again.String())
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "it is empty",
		"p90 <= 1s":                         `"p90" cannot be measured: want success, p50, p95, p99, panics, memory, cpu, goroutines or probe`,
		"p95 >= 1s":                         `p95 goes with <=; for example "p95 <= 300ms over 10s min 100"`,
		"p95<=1s":                           `"p95<=1s" cannot be measured`,
		"success <= 99%":                    "success goes with >=",
		"success >=":                        "the limit is missing",
		"success >= 99":                     "99: want a percentage",
		"success >= 101%":                   "101%: want a percentage of at most 100%",
		"success >= NaN%":                   "NaN%: want a percentage",
		"cpu <= 0%":                         "0%: want a percentage",
		"p99 <= 300":                        "300: want a duration",
		"p99 <= -1s":                        "-1s: want a duration",
		"p99 <= 1.5x":                       `1.5x: want "1.5x old"`,
		"p99 <= 1.5x new":                   `1.5x: want "1.5x old"`,
		"p99 <= fastx old":                  "fastx: want a factor",
		"p99 <= 0x old":                     "0x: want a factor",
		"p99 <= NaNx old":                   "NaNx: want a factor",
		"p99 <= 2x old or":                  "or: the limit is missing",
		"p99 <= 2x old or 5":                "5: want a duration",
		"panics <= 2x old":                  "panics are not compared",
		"panics <= -1":                      "-1: want a whole number",
		"memory <= 512":                     "512: want a size",
		"memory <= 512MB":                   "512MB: want a size in B, KiB, MiB or GiB",
		"memory <= 0B":                      "want a size",
		"goroutines <= many":                "many: want a whole number",
		"p99 <= 1s under 5s":                `"under" is not known here`,
		"p99 <= 1s over":                    "over: the value is missing",
		"p99 <= 1s over 10":                 "over 10: want a duration from 1s to 1h",
		"p99 <= 1s over 2h":                 "over 2h: want a duration from 1s to 1h",
		"p99 <= 1s min few":                 "min few: want a number of requests",
		"p99 <= 1s min 1 min 2":             "min stands there twice",
		"probe":                             `it does not end with "fails < N"`,
		"probe http GET /":                  `it does not end with "fails < N"`,
		"probe http GET / fails <= 3":       `it does not end with "fails < N"`,
		"probe http GET / fails < 0":        "fails < 0: want a number from 1",
		"probe htp GET / fails < 3":         `"htp" is not a kind of probe`,
		"probe fails < 3":                   "the kind is missing",
		"probe tcp a:1 fails < 3 min 5":     `"min" is not known here`,
		"probe tcp a:1 fails < 30 over 10s": "it can never fail 30 times over 10s",
		"p99 <= 1s\nover 3s":                "control character",
	} {
		_, err := ParseRule(text)
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), want)
		assert.Contains(t, err.Error(), "for example")
		assert.NotContains(t, err.Error(), "\n")
	}
	_, err := ParseRules("panics <= 0", "panics < 0")
	assert.ErrorContains(t, err, `rule "panics < 0": panics goes with <=`)
}

func TestSpans(t *testing.T) {
	rules, err := ParseRules("p95 <= 2x old over 30s", "p99 <= 2x old over 30s", "memory <= 2x old", "success >= 99% over 1m")
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{30 * time.Second, 10 * time.Second}, Spans(rules))
	assert.Equal(t, time.Minute, Longest(rules))
	assert.Equal(t, time.Minute, rules[3].Over())
	assert.Zero(t, Longest(nil))
}

func FuzzParseRule(f *testing.F) {
	f.Add("success >= 99% over 10s min 50")
	f.Add("p95 <= 1.5x old or 20ms over 10s min 100")
	f.Add("memory <= 512MiB")
	f.Add(`probe exec a "fails" < fails < 3 over 1m`)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than a line: %q", err)
			}
			return
		}
		text := r.String()
		if len(text) > maxText {
			return // the defaults make it longer
		}
		again, err := ParseRule(text)
		if err != nil || again.String() != text {
			t.Fatalf("%q gives %q, and that %q: %v", s, text, again, err)
		}
		own := Snapshot{Over: time.Second, Requests: 100, Successes: 50, P50: 1, P95: 2, P99: 3, Memory: 1, CPU: 1, Goroutines: 1}
		if strings.Contains(r.Judge(own, &own).Reason, "\n") {
			t.Fatal("more than a line")
		}
	})
}
