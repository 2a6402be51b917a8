package metrics

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// MaxSeries is how many series go from one generation to the next; a histogram is one.
const MaxSeries = 10_000

// families are metric families by their name.
type families map[string]*family

type family struct {
	*dto.MetricFamily
	series map[string]*dto.Metric // by their labels; the same as in Metric
}

// index arranges what a registry has gathered. It is the caller's own and may be
// changed.
func index(list []*dto.MetricFamily) families {
	f := make(families, len(list))
	for _, mf := range list {
		f[mf.GetName()] = arrange(mf)
	}
	return f
}

func arrange(mf *dto.MetricFamily) *family {
	f := &family{MetricFamily: mf, series: make(map[string]*dto.Metric, len(mf.Metric))}
	for _, m := range mf.Metric {
		round(m)
		f.series[key(m)] = m
	}
	return f
}

// key names a series within its family: its labels, which a registry sorts.
func key(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.Label {
		b.WriteString(l.GetName())
		b.WriteByte(0xff) // in no UTF-8
		b.WriteString(l.GetValue())
		b.WriteByte(0xff)
	}
	return b.String()
}

// series counts them.
func (f families) series() (n int) {
	for _, one := range f {
		n += len(one.Metric)
	}
	return n
}

// add adds others up with these. The others are not changed, nor referred to.
func (f families) add(others families) { f.merge(others, false) }

// addKnown leaves out the series that f does not have.
func (f families) addKnown(others families) { f.merge(others, true) }

func (f families) merge(others families, known bool) {
	for name, other := range others {
		mine, ok := f[name]
		switch {
		case !ok && known:
			continue
		case !ok:
			f[name] = arrange(proto.CloneOf(other.MetricFamily))
			continue
		case mine.GetType() != other.GetType():
			continue // it has become something else in this build
		}
		for k, m := range other.series {
			if to, ok := mine.series[k]; ok {
				sum(mine.GetType(), to, m)
			} else if !known {
				m = proto.CloneOf(m)
				mine.series[k] = m
				mine.Metric = append(mine.Metric, m)
			}
		}
	}
}

// sorted gives them in the order that the text format has by convention.
func (f families) sorted() []*dto.MetricFamily {
	list := make([]*dto.MetricFamily, 0, len(f))
	for _, one := range f {
		slices.SortFunc(one.Metric, func(a, b *dto.Metric) int { return strings.Compare(key(a), key(b)) })
		list = append(list, one.MetricFamily)
	}
	slices.SortFunc(list, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list
}

// carried gives the part that another generation is told.
func (f families) carried() families {
	out := make(families, len(f))
	for name, one := range f {
		if strings.HasPrefix(name, networkPrefix) {
			continue
		}
		mf := &dto.MetricFamily{Name: one.Name, Help: one.Help, Type: one.Type, Unit: one.Unit}
		for _, m := range one.Metric {
			if c := carriedMetric(one.MetricFamily, m); c != nil {
				mf.Metric = append(mf.Metric, c)
			}
		}
		if len(mf.Metric) > 0 {
			out[name] = arrange(mf)
		}
	}
	return out
}

// carriedOn is what of them is inherited: a gauge ends with its process.
func (f families) carriedOn() families {
	out := make(families, len(f))
	for name, one := range f {
		if one.GetType() != dto.MetricType_GAUGE {
			out[name] = one
		}
	}
	return out
}

// networkPrefix is that of the process collector's counters of the network, which are
// those of the network namespace and not the process's own (proc_pid_net(5),
// /proc/PID/net/netstat): they go on by themselves.
const networkPrefix = "process_network_"
