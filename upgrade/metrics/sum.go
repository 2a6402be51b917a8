package metrics

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// carriedMetric copies of a series what can be added up; nil: nothing.
func carriedMetric(f *dto.MetricFamily, m *dto.Metric) *dto.Metric {
	c := &dto.Metric{Label: m.Label}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		c.Counter = &dto.Counter{Value: m.Counter.Value, CreatedTimestamp: m.Counter.CreatedTimestamp}
	case dto.MetricType_GAUGE:
		if !slices.Contains(summedGauges, f.GetName()) {
			return nil
		}
		c.Gauge = &dto.Gauge{Value: m.Gauge.Value}
	case dto.MetricType_SUMMARY:
		s := m.Summary
		c.Summary = &dto.Summary{SampleCount: s.SampleCount, SampleSum: s.SampleSum, CreatedTimestamp: s.CreatedTimestamp}
	case dto.MetricType_HISTOGRAM:
		h := m.Histogram
		if h.Schema != nil {
			return nil // native
		}
		c.Histogram = &dto.Histogram{SampleCount: h.SampleCount, SampleSum: h.SampleSum, CreatedTimestamp: h.CreatedTimestamp}
		for _, b := range h.Bucket {
			c.Histogram.Bucket = append(c.Histogram.Bucket, &dto.Bucket{CumulativeCount: b.CumulativeCount, UpperBound: b.UpperBound})
		}
	default:
		return nil
	}
	return c
}

// grain is the resolution of what is added up.
const grain = 1.0 / (1 << 20)

// round puts what is not a whole number, seconds for example, on a grid, on which sums
// up to 2^32 are exact. Otherwise they would depend on the order in which they are
// built, which differs between the generations, and a counter that falls by its last
// bit is one that has begun anew to Prometheus.
func round(m *dto.Metric) {
	var v **float64 // what it points to may be the collector's own
	switch {
	case m.Counter != nil:
		v = &m.Counter.Value
	case m.Summary != nil:
		v = &m.Summary.SampleSum
	case m.Histogram != nil:
		v = &m.Histogram.SampleSum
	}
	if v != nil && *v != nil && math.Abs(**v) < 1<<32 {
		*v = proto.Float64(math.Floor(**v/grain) * grain)
	}
}

// sum adds a series of another generation to one of this.
func sum(t dto.MetricType, to, from *dto.Metric) {
	switch t {
	case dto.MetricType_COUNTER:
		if a, b := to.Counter, from.Counter; a != nil && b != nil {
			a.Value = proto.Float64(a.GetValue() + b.GetValue())
			if b.CreatedTimestamp != nil {
				a.CreatedTimestamp = b.CreatedTimestamp // the other began to count before
			}
		}
	case dto.MetricType_GAUGE:
		if a, b := to.Gauge, from.Gauge; a != nil && b != nil {
			a.Value = proto.Float64(a.GetValue() + b.GetValue())
		}
	case dto.MetricType_SUMMARY:
		if a, b := to.Summary, from.Summary; a != nil && b != nil {
			a.SampleCount = proto.Uint64(a.GetSampleCount() + b.GetSampleCount())
			a.SampleSum = proto.Float64(a.GetSampleSum() + b.GetSampleSum())
			if b.CreatedTimestamp != nil {
				a.CreatedTimestamp = b.CreatedTimestamp
			}
		}
	case dto.MetricType_HISTOGRAM:
		if a, b := to.Histogram, from.Histogram; a != nil && b != nil && a.Schema == nil {
			sumHistograms(a, b)
		}
	}
}

// sumHistograms adds b's buckets to a's. Where b has no bucket with a's bound, it
// counts with the next smaller one: a bucket that stays never falls, whatever the
// others become.
func sumHistograms(a, b *dto.Histogram) {
	a.SampleCount = proto.Uint64(a.GetSampleCount() + b.GetSampleCount())
	a.SampleSum = proto.Float64(a.GetSampleSum() + b.GetSampleSum())
	if b.CreatedTimestamp != nil {
		a.CreatedTimestamp = b.CreatedTimestamp
	}
	i, below := 0, uint64(0)
	for _, bucket := range a.Bucket {
		for i < len(b.Bucket) && b.Bucket[i].GetUpperBound() <= bucket.GetUpperBound() {
			below = b.Bucket[i].GetCumulativeCount()
			i++
		}
		bucket.CumulativeCount = proto.Uint64(bucket.GetCumulativeCount() + below)
	}
}
