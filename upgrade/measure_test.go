package upgrade

import (
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/metrics"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// TestMetricsWithoutARegistry: an author who sets nothing has those of the process.
func TestMetricsWithoutARegistry(t *testing.T) {
	reports, err := report.Open("")
	require.NoError(t, err)
	p := &Process{generation: 3, started: time.Now(), reports: reports}
	require.NoError(t, p.measure())
	w := httptest.NewRecorder()
	adminFace{p}.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		"holdfast_generation 3\n", "holdfast_state{state=\"starting\"} 1\n", "holdfast_upgrade_possible 1\n",
		"holdfast_upgrades_total{outcome=\"failed\"} 0\n", "\ngo_goroutines ",
	} {
		require.Contains(t, w.Body.String(), line)
	}
	p.measures.spent.Store(true)
	p.measures.Upgraded(Outcome{Result: Failed, Phase: report.Gate})
	w = httptest.NewRecorder()
	adminFace{p}.Metrics().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, w.Body.String(), "holdfast_upgrade_possible 0\n")
	require.Contains(t, w.Body.String(), "holdfast_upgrade_failures_total{phase=\"gate\"} 1\n")

	taken := prometheus.NewRegistry()
	taken.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_generation", Help: "mine"}))
	p = &Process{cfg: Config{Metrics: taken}, reports: reports}
	require.ErrorContains(t, p.measure(), "names that begin with holdfast_ are taken")
}

// exchanges makes one generation's end of a link, and the other's.
func exchanges(t *testing.T) (x *exchange, hits prometheus.Counter, near, far *handoff.Link) {
	t.Helper()
	near, remote, err := handoff.NewLink()
	if err != nil {
		t.Skip(err)
	}
	far, err = handoff.OpenLink(remote)
	require.NoError(t, err)
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	r := prometheus.NewRegistry()
	hits = prometheus.NewCounter(prometheus.CounterOpts{Name: "hits_total", Help: "h"})
	r.MustRegister(hits)
	return &exchange{ledger: metrics.NewLedger(r)}, hits, near, far
}

func total(t *testing.T, x *exchange) float64 {
	t.Helper()
	list, err := x.Gather()
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0].Metric[0].Counter.GetValue()
}

// TestExchangeAsks: a scrape shows what the other generation has by then.
func TestExchangeAsks(t *testing.T) {
	x, hits, near, far := exchanges(t)
	y, others, _, _ := exchanges(t)
	x.attach(near)
	y.attach(far)
	done := make(chan struct{})
	go func() { // the other generation
		defer close(done)
		for {
			m, err := far.Receive(0)
			if err != nil {
				return
			}
			if answer := y.take(far, m); answer != nil {
				answer()
			}
		}
	}()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for {
			m, err := near.Receive(0)
			if err != nil {
				return
			}
			x.take(near, m)
		}
	}()
	hits.Add(3)
	others.Add(4)
	require.Equal(t, 7.0, total(t, x))
	others.Inc()
	require.Equal(t, 8.0, total(t, x))
	require.Equal(t, 3.0, hear(t, y)-5, "the question has told it")
	require.NoError(t, far.Close())
	<-done
	<-heard
	x.detach(near)
	x.detach(near)
	require.Equal(t, 8.0, total(t, x))
}

// TestWhatIsShownHasBeenTold: the next generation goes on from there, though this one
// counts on while it answers, as the runtime's own counters do.
func TestWhatIsShownHasBeenTold(t *testing.T) {
	x, _, near, far := exchanges(t)
	y, _, _, _ := exchanges(t)
	r := prometheus.NewRegistry()
	looks := 0.0
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "looks_total", Help: "l"}, func() float64 { looks++; return looks }))
	x.ledger = metrics.NewLedger(r)
	x.attach(near)
	y.attach(far)
	told := make(chan struct{})
	go func() { // the other generation hears the question, and this one is gone before it answers
		defer close(told)
		m, err := far.Receive(0)
		if err == nil {
			y.take(far, m)
		}
		x.detach(near)
	}()
	shown := total(t, x)
	<-told
	y.detach(far)
	list, err := y.Gather()
	require.NoError(t, err)
	i := slices.IndexFunc(list, func(f *dto.MetricFamily) bool { return f.GetName() == "looks_total" })
	require.Equal(t, shown, list[i].Metric[0].Counter.GetValue())
}

// TestExchangeWaitsForTheLastWord of a generation that has gone: it may lie unread.
func TestExchangeWaitsForTheLastWord(t *testing.T) {
	x, hits, near, far := exchanges(t)
	y, others, _, _ := exchanges(t)
	x.attach(near)
	y.attach(far)
	hits.Add(3)
	others.Add(4)
	y.tell()
	require.NoError(t, far.Close())
	go func() {
		for asked := uint64(0); asked == 0; runtime.Gosched() { // the scrape has begun
			x.mu.Lock()
			asked = x.asked
			x.mu.Unlock()
		}
		for m, err := near.Receive(0); err == nil; m, err = near.Receive(0) {
			x.take(near, m)
		}
		x.detach(near)
	}()
	require.Equal(t, 7.0, total(t, x))
}

// hear is what a generation shows that asks nobody.
func hear(t *testing.T, x *exchange) float64 {
	t.Helper()
	list, err := x.ledger.Show(x.ledger.Count())
	require.NoError(t, err)
	return list[0].Metric[0].Counter.GetValue()
}

// TestExchangeDoesNotWaitForLong for a generation that hangs, and not at all for one
// that has hung for some time.
func TestExchangeDoesNotWaitForLong(t *testing.T) {
	x, hits, near, _ := exchanges(t)
	x.attach(near)
	hits.Inc()
	began := time.Now()
	for range maxUnanswered {
		require.Equal(t, 1.0, total(t, x))
	}
	require.GreaterOrEqual(t, time.Since(began), maxUnanswered*answerTimeout)
	x.mu.Lock()
	require.Equal(t, uint64(maxUnanswered), x.asked)
	x.mu.Unlock()
	require.Equal(t, 1.0, total(t, x))
	require.Equal(t, uint64(maxUnanswered), x.asked, "it is not asked again")

	// Its end wakes who waits.
	y, _, near, _ := exchanges(t)
	y.attach(near)
	woken := make(chan struct{})
	go func() { defer close(woken); y.ask() }()
	require.Eventually(t, func() bool { y.mu.Lock(); defer y.mu.Unlock(); return y.asked == 1 }, 5*time.Second, time.Millisecond)
	y.detach(near)
	<-woken
}
