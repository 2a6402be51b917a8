package metrics

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// build is a generation with some metrics of a service.
type build struct {
	*Ledger
	registry *prometheus.Registry
	hits     *prometheus.CounterVec
	load     prometheus.Gauge
	conns    *prometheus.GaugeVec
	times    prometheus.Histogram
	sizes    prometheus.Summary
	sparse   prometheus.Histogram
}

func newBuild(buckets ...float64) *build {
	if len(buckets) == 0 {
		buckets = []float64{1, 2}
	}
	b := &build{
		registry: prometheus.NewRegistry(),
		hits:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "hits_total", Help: "h"}, []string{"who"}),
		load:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "load", Help: "l"}),
		conns:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_connections", Help: "c"}, []string{"state"}),
		times:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "times", Help: "t", Buckets: buckets}),
		sizes:    prometheus.NewSummary(prometheus.SummaryOpts{Name: "sizes", Help: "s", Objectives: map[float64]float64{.5: .1}}),
		sparse:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "sparse", Help: "s", NativeHistogramBucketFactor: 1.1}),
	}
	b.registry.MustRegister(b.hits, b.load, b.conns, b.times, b.sizes, b.sparse)
	b.Ledger = NewLedger(b.registry)
	return b
}

// shown is what a scrape shows, one value for each series.
func (b *build) shown(t *testing.T) map[string]float64 {
	t.Helper()
	list, err := b.Show(b.Count())
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range list {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			switch {
			case m.Counter != nil:
				all[name] = m.Counter.GetValue()
			case m.Gauge != nil:
				all[name] = m.Gauge.GetValue()
			case m.Summary != nil:
				all[name+" count"], all[name+" sum"] = float64(m.Summary.GetSampleCount()), m.Summary.GetSampleSum()
			case m.Histogram != nil:
				all[name+" count"], all[name+" sum"] = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
				for _, k := range m.Histogram.Bucket {
					all[fmt.Sprint(name, " le ", k.GetUpperBound())] = float64(k.GetCumulativeCount())
				}
			}
		}
	}
	return all
}

// tells gives one's figures to the other.
func (b *build) tells(t *testing.T, other *build) {
	t.Helper()
	told, err := b.Tell(b.Count())
	require.NoError(t, err)
	require.NoError(t, other.Hear(told))
}

// TestLedgerContinues follows a counter through a whole upgrade.
func TestLedgerContinues(t *testing.T) {
	old := newBuild()
	old.hits.WithLabelValues("a").Add(5)
	old.hits.WithLabelValues("gone").Add(1)
	old.load.Set(7)
	old.conns.WithLabelValues("idle").Set(3)
	old.times.Observe(0.5)
	old.times.Observe(9)
	old.sizes.Observe(100)
	old.sparse.Observe(1)

	next := newBuild()
	old.tells(t, next)
	old.tells(t, next) // twice changes nothing
	next.hits.WithLabelValues("a").Add(2)
	next.conns.WithLabelValues("idle").Set(4)
	next.times.Observe(1.5)
	next.sizes.Observe(1)
	next.tells(t, old)
	both := map[string]float64{
		"hits_total a": 7, "hits_total gone": 1, "holdfast_connections idle": 7,
		"times count": 3, "times sum": 11, "times le 1": 1, "times le 2": 2, "sizes count": 2, "sizes sum": 101,
	}
	for _, b := range []*build{old, next} {
		shown := b.shown(t)
		for k, v := range both {
			require.Equal(t, v, shown[k], k)
		}
	}
	require.Equal(t, 7.0, old.shown(t)["load"])
	require.Zero(t, next.shown(t)["load"], "a gauge is the process's own")
	require.Zero(t, next.shown(t)["sparse count"], "native histograms begin anew")

	old.hits.WithLabelValues("a").Inc() // while it drains
	old.conns.WithLabelValues("idle").Set(0)
	old.tells(t, next)
	require.Equal(t, 8.0, next.shown(t)["hits_total a"])
	next.Settle()
	require.Equal(t, 8.0, next.shown(t)["hits_total a"])
	require.Equal(t, 4.0, next.shown(t)["holdfast_connections idle"])
	next.Settle()
	require.Equal(t, 8.0, next.shown(t)["hits_total a"], "inherited once")

	third := newBuild()
	next.tells(t, third)
	third.Settle()
	require.Equal(t, 8.0, third.shown(t)["hits_total a"])
	require.Equal(t, 3.0, third.shown(t)["times count"])
}

// TestSumsAreExact: in whatever order they are built.
func TestSumsAreExact(t *testing.T) {
	for i := range 100 {
		old, failed := newBuild(), newBuild()
		x := float64(i)
		for n, b := range []*build{old, failed} {
			for range i {
				b.times.Observe(0.1*x + 0.0007*float64(n+1))
				b.sizes.Observe(0.3)
				b.hits.WithLabelValues("a").Add(0.7)
			}
		}
		for range 3 {
			failed.tells(t, old)
			before := old.shown(t)
			old.Settle()
			require.Equal(t, before, old.shown(t))
			next := newBuild()
			old.tells(t, next)
			for _, k := range []string{"times sum", "sizes sum", "hits_total a"} {
				require.Equal(t, before[k], next.shown(t)[k], k)
			}
		}
	}
}

// TestLedgerTakesBack keeps what a new generation had counted that did not stay.
func TestLedgerTakesBack(t *testing.T) {
	old := newBuild()
	old.hits.WithLabelValues("a").Add(5)
	for range 2 {
		next := newBuild()
		old.tells(t, next)
		next.hits.WithLabelValues("a").Add(2)
		next.tells(t, old)
		old.Settle()
	}
	require.Equal(t, 9.0, old.shown(t)["hits_total a"])
}

// TestLedgerOtherBuckets lets the buckets change from build to build: those that stay
// do not fall.
func TestLedgerOtherBuckets(t *testing.T) {
	old, next := newBuild(1, 2, 4), newBuild(0.5, 2, 3, 4)
	for _, v := range []float64{0.4, 1.5, 3.5, 9} {
		old.times.Observe(v)
	}
	next.times.Observe(0.1)
	old.tells(t, next)
	next.Settle()
	shown := next.shown(t)
	for k, v := range map[string]float64{"le 0.5": 1, "le 2": 3, "le 3": 3, "le 4": 4, "count": 5} {
		require.Equal(t, v, shown["times "+k], k)
	}
}

// TestLedgerOtherType drops what a build has made something else of.
func TestLedgerOtherType(t *testing.T) {
	old, next := newBuild(), NewLedger(prometheus.NewRegistry())
	old.hits.WithLabelValues("a").Inc()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "hits_total", Help: "h"}, []string{"who"})
	g.WithLabelValues("a").Set(40)
	next.own.(*prometheus.Registry).MustRegister(g)
	told, err := old.Tell(old.Count())
	require.NoError(t, err)
	require.NoError(t, next.Hear(told))
	require.NoError(t, testutil.GatherAndCompare(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return next.Show(next.Count()) }), strings.NewReader("# HELP hits_total h\n# TYPE hits_total gauge\nhits_total{who=\"a\"} 40\n"), "hits_total"))
}

// TestLedgerIsBounded: first goes what the new binary does not have, then the rest.
func TestLedgerIsBounded(t *testing.T) {
	old, next := newBuild(), newBuild()
	for i := range MaxSeries - 10 {
		old.hits.WithLabelValues(fmt.Sprint("old", i)).Inc()
	}
	old.tells(t, next)
	next.Settle()
	next.hits.WithLabelValues("old1").Inc()
	for i := range 100 {
		next.hits.WithLabelValues(fmt.Sprint("new", i)).Inc()
	}
	third := newBuild()
	next.tells(t, third)
	third.Settle()
	require.Equal(t, 2.0, third.shown(t)["hits_total old1"])
	require.Equal(t, 1.0, third.shown(t)["hits_total new99"])
	require.NotContains(t, third.shown(t), "hits_total old2")

	for i := range MaxSeries {
		third.hits.WithLabelValues(fmt.Sprint("more", i)).Inc()
	}
	_, err := third.Tell(third.Count())
	require.ErrorContains(t, err, "series, at most 10000 go on")
}

func TestHearRefuses(t *testing.T) {
	b := newBuild()
	b.hits.WithLabelValues("a").Inc()
	told, err := b.Tell(b.Count())
	require.NoError(t, err)
	require.Error(t, b.Hear(told[:len(told)-1]))
	require.Error(t, b.Hear([]byte("no metrics")))
	require.Error(t, b.Hear(make([]byte, maxTold+1)))
	require.Equal(t, 1.0, b.shown(t)["hits_total a"], "what is not understood changes nothing")
}

func FuzzHear(f *testing.F) {
	b := newBuild()
	b.hits.WithLabelValues("a").Inc()
	b.times.Observe(1)
	b.sizes.Observe(1)
	told, err := b.Tell(b.Count())
	require.NoError(f, err)
	f.Add(told)
	f.Fuzz(func(t *testing.T, data []byte) {
		b := newBuild()
		b.hits.WithLabelValues("a").Inc()
		b.times.Observe(1)
		if b.Hear(data) != nil {
			return
		}
		b.Settle()
		_, err := b.Show(b.Count())
		require.NoError(t, err)
		_, err = b.Tell(b.Count())
		require.NoError(t, err)
	})
}

// TestRegister looks at the metrics of a process as promtool would.
func TestRegister(t *testing.T) {
	r := prometheus.NewRegistry()
	c := NewCounters()
	v := View{
		Status: report.Status{
			PID: 7, Generation: 3, Build: "b", State: "serving", Started: time.Unix(1_700_000_000, 0),
			Predecessor: &report.Predecessor{PID: 6},
		},
		Possible: true, Counts: handoff.Counts{Idle: 4, InFlight: 2}, Moves: Moves{Moved: 5},
		Deadline: time.Now().Add(time.Hour), Left: 9,
	}
	require.NoError(t, Register(r, c, NewCollector(func() View { return v }, []string{"serving", "draining"})))
	require.ErrorContains(t, Register(r, c, NewCollector(func() View { return v }, nil)), "names that begin with holdfast_ are taken")
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	require.Empty(t, problems)

	c.Upgraded(report.Outcome{Result: report.Failed, Phase: "of a later version"})
	c.Phase(report.Takeover, time.Second)
	c.Drained(handoff.Account{Closed: 2, Retired: 1, Cut: 4})
	require.NoError(t, testutil.GatherAndCompare(r, strings.NewReader(`
# HELP holdfast_connections_drained_total Connections that did not move and ended in good order in the drain of an old generation or of a stop.
# TYPE holdfast_connections_drained_total counter
holdfast_connections_drained_total 3
# HELP holdfast_connections_moved_total Connections that were handed to a new generation.
# TYPE holdfast_connections_moved_total counter
holdfast_connections_moved_total 5
# HELP holdfast_drain_connections Connections that the drain has left, of the previous generation or of a stop.
# TYPE holdfast_drain_connections gauge
holdfast_drain_connections 9
# HELP holdfast_http_requests_cut_total Requests that the drain deadline ended; the log names each.
# TYPE holdfast_http_requests_cut_total counter
holdfast_http_requests_cut_total 4
# HELP holdfast_state 1 for the state that this generation is in: see go doc upgrade.
# TYPE holdfast_state gauge
holdfast_state{state="draining"} 0
holdfast_state{state="serving"} 1
# HELP holdfast_upgrades_total Upgrades that have ended, by outcome: succeeded or failed.
# TYPE holdfast_upgrades_total counter
holdfast_upgrades_total{outcome="failed"} 1
holdfast_upgrades_total{outcome="succeeded"} 0
`), "holdfast_connections_drained_total", "holdfast_connections_moved_total", "holdfast_drain_connections",
		"holdfast_http_requests_cut_total", "holdfast_state", "holdfast_upgrades_total"))
	list, err := r.Gather()
	require.NoError(t, err)
	names := map[string]*dto.MetricFamily{}
	for _, f := range list {
		names[f.GetName()] = f
	}
	require.Contains(t, names, "go_goroutines")
	require.InDelta(t, 3600, names["holdfast_drain_remaining_seconds"].Metric[0].Gauge.GetValue(), 60)
}
