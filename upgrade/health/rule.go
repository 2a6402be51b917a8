package health

import (
	"math"
	"time"
)

// Defaults of a [Rule].
const (
	DefaultOver = 10 * time.Second
	// DefaultProbeInterval is how often the probe of a rule is asked.
	DefaultProbeInterval = time.Second
)

// Rule is one condition on the figures of a process. [ParseRule] and [ProbeRule]
// make one.
type Rule struct {
	metric *metric
	limit  float64 // the fixed limit, or the one that is always allowed; NaN: none
	factor float64 // of the old generation's figure; 0: it is not compared
	over   time.Duration
	min    uint64 // requests, of both generations where they are compared

	probe *Probe // of "probe … fails < N"
	fails int
}

// metric is what a rule can look at. Figures are in the unit of the limit's text:
// percent, nanoseconds, bytes, a count.
type metric struct {
	name    string
	subject string // in sentences
	example string
	atLeast bool   // the limit is the lowest that is good, not the highest
	min     uint64 // requests, unless the rule says otherwise
	fixed   bool   // it is not compared with the old generation
	now     bool   // the state of now, over no time
	parse   func(string) (float64, error)
	text    func(float64) string // what parse reads
	say     func(float64) string // for people
	unit    string               // in JSON
	scale   float64              // from the figure to the unit in JSON
	value   func(Snapshot) (v float64, known bool)
}

// The minima: one failure of three requests is not an outage, and of fewer than 100
// the 99th percentile is the slowest. That a panic is one takes no statistics, but
// silence shows no health.
var metrics = []*metric{
	{
		name: "success", subject: "success", example: `"success >= 99% over 10s min 50"`,
		atLeast: true, min: 50, parse: parseShare, text: shareText, say: percent, unit: "percent", scale: 1,
		value: func(s Snapshot) (float64, bool) { return s.success(), true },
	},
	latency("p50", 50, func(s Snapshot) time.Duration { return s.P50 }),
	latency("p95", 50, func(s Snapshot) time.Duration { return s.P95 }),
	latency("p99", 100, func(s Snapshot) time.Duration { return s.P99 }),
	{
		name: "panics", subject: "the number of panics", example: `"panics <= 0"`,
		min: 1, fixed: true, parse: parseCount, text: shortNumber, say: count, unit: "panics", scale: 1,
		value: func(s Snapshot) (float64, bool) { return float64(s.Panics), true },
	},
	{
		name: "memory", subject: "resident memory", example: `"memory <= 512MiB" or "memory <= 2x old"`,
		now: true, parse: parseBytes, text: bytesText, say: byteSize, unit: "bytes", scale: 1,
		value: func(s Snapshot) (float64, bool) { return float64(s.Memory), s.Memory > 0 },
	},
	{
		name: "cpu", subject: "CPU use", example: `"cpu <= 90%", of one core`,
		parse: parsePercent, text: shareText, say: percent, unit: "percent", scale: 1,
		value: func(s Snapshot) (float64, bool) { return 100 * s.CPU, s.CPU >= 0 },
	},
	{
		name: "goroutines", subject: "the number of goroutines", example: `"goroutines <= 10000"`,
		now: true, parse: parseCount, text: shortNumber, say: count, unit: "goroutines", scale: 1,
		value: func(s Snapshot) (float64, bool) { return float64(s.Goroutines), s.Goroutines > 0 },
	},
}

// probeMetric is the metric of "probe … fails < N"; its figure is the tally of a watch.
var probeMetric = &metric{name: "probe", example: `"probe http GET /readyz fails < 3"`, unit: "failures", scale: 1}

func latency(name string, least uint64, of func(Snapshot) time.Duration) *metric {
	return &metric{
		name: name, subject: name, example: `"` + name + ` <= 300ms over 10s min 100" or "` + name + ` <= 1.5x old or 20ms"`,
		min: least, parse: parseLatency, text: latencyText, unit: "ms", scale: 1 / float64(time.Millisecond),
		say:   func(v float64) string { return seconds(time.Duration(v)) },
		value: func(s Snapshot) (float64, bool) { return float64(of(s)), true },
	}
}

// ProbeRule makes the rule that a probe fails less than fails times in 10 seconds. It
// is asked every second, and must have succeeded at least once.
func ProbeRule(p *Probe, fails int) Rule {
	return Rule{metric: probeMetric, limit: math.NaN(), over: DefaultOver, probe: p, fails: max(1, fails)}
}

// Over is the time that the rule looks back.
func (r Rule) Over() time.Duration { return r.over }

// Compares tells whether the rule needs the old generation's figures.
func (r Rule) Compares() bool { return r.factor > 0 }

// Longest gives the length that a [Window] must have for the rules; 0 for none.
func Longest(rules []Rule) time.Duration {
	var d time.Duration
	for _, r := range rules {
		d = max(d, r.over)
	}
	return d
}

// Spans are the times over which the rules need the old generation's figures, each
// once.
func Spans(rules []Rule) []time.Duration {
	var ds []time.Duration
	seen := map[time.Duration]bool{}
	for _, r := range rules {
		if r.Compares() && !seen[r.over] {
			seen[r.over] = true
			ds = append(ds, r.over)
		}
	}
	return ds
}
