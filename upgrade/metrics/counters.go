package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// Counters are what a process counts when it happens.
type Counters struct {
	upgrades *prometheus.CounterVec
	failures *prometheus.CounterVec
	phases   *prometheus.HistogramVec
	drained  prometheus.Counter
	cut      prometheus.Counter
}

// phaseBuckets reach from a hand-over to a long trial, in seconds.
var phaseBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

// NewCounters makes them. Every label is there from the beginning, for Prometheus sees
// no increase from nothing to 1.
func NewCounters() *Counters {
	c := &Counters{
		upgrades: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_upgrades_total", Help: "Upgrades that have ended, by outcome: succeeded or failed.",
		}, []string{"outcome"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_upgrade_failures_total", Help: "Upgrades that have failed, by the phase in which they did.",
		}, []string{"phase"}),
		phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_upgrade_phase_duration_seconds", Help: "How long the phases of upgrades took.", Buckets: phaseBuckets,
		}, []string{"phase"}),
		drained: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_connections_drained_total", Help: "Connections that did not move and ended in good order in the drain of an old generation or of a stop.",
		}),
		cut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_http_requests_cut_total", Help: "Requests that the drain deadline ended; the log names each.",
		}),
	}
	for _, r := range []report.Result{report.Succeeded, report.Failed} {
		c.upgrades.WithLabelValues(string(r))
	}
	for _, p := range phases {
		c.phases.WithLabelValues(string(p))
		if p != report.Drain {
			c.failures.WithLabelValues(string(p))
		}
	}
	return c
}

// Upgraded counts an upgrade that has ended.
func (c *Counters) Upgraded(o report.Outcome) {
	c.upgrades.WithLabelValues(string(o.Result)).Inc()
	if o.Result == report.Failed {
		c.failures.WithLabelValues(known(o.Phase)).Inc()
	}
}

// Phase counts a phase that is over.
func (c *Counters) Phase(p report.Phase, took time.Duration) {
	c.phases.WithLabelValues(known(p)).Observe(took.Seconds())
}

// Drained counts what a drain has done.
func (c *Counters) Drained(a handoff.Account) {
	c.drained.Add(float64(a.Closed + a.Retired))
	c.cut.Add(float64(a.Cut))
}

// known keeps what another build says from becoming a label of its own.
func known(p report.Phase) string {
	for _, k := range phases {
		if p == k {
			return string(p)
		}
	}
	return "other"
}

// Register puts everything that a process tells into a registry: the counters, the
// look, and the collectors of the Go runtime and the process, if they are not there
// yet. An error names what is taken.
func Register(r prometheus.Registerer, c *Counters, look prometheus.Collector) error {
	var errs []error
	for _, one := range []prometheus.Collector{c.upgrades, c.failures, c.phases, c.drained, c.cut, look} {
		errs = append(errs, r.Register(one))
	}
	for _, one := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		var there prometheus.AlreadyRegisteredError
		if err := r.Register(one); err != nil && !errors.As(err, &there) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("metrics: names that begin with holdfast_ are taken by this module: %w", err)
	}
	return nil
}
