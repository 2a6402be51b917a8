package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

// maxTold is the most that one generation tells the other, in bytes.
const maxTold = 16 << 20

// encode writes families as they are exposed in the delimited protobuf format, which
// readers of other versions understand as far as they know the fields.
func encode(f families) ([]byte, error) {
	var b bytes.Buffer
	for _, mf := range f.sorted() {
		if _, err := protodelim.MarshalTo(&b, mf); err != nil {
			return nil, fmt.Errorf("metrics: encode %s: %w", mf.GetName(), err)
		}
	}
	if b.Len() > maxTold {
		return nil, fmt.Errorf("metrics: %d bytes, at most %d go to the next generation", b.Len(), maxTold)
	}
	return b.Bytes(), nil
}

// decode reads what another generation wrote, and takes of it what can be added up.
func decode(b []byte) (families, error) {
	if len(b) > maxTold {
		return nil, fmt.Errorf("metrics: decode: %d bytes, at most %d are read", len(b), maxTold)
	}
	var list []*dto.MetricFamily
	series := 0
	for r := bytes.NewReader(b); ; {
		mf := &dto.MetricFamily{}
		err := protodelim.UnmarshalOptions{MaxSize: maxTold}.UnmarshalFrom(r, mf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("metrics: decode: %w", err)
		}
		if series += len(mf.Metric); series > MaxSeries {
			return nil, fmt.Errorf("metrics: decode: more than %d series", MaxSeries)
		}
		for _, m := range mf.Metric {
			if !fits(mf.GetType(), m) {
				return nil, fmt.Errorf("metrics: decode: %s is not what it says to be", mf.GetName())
			}
		}
		list = append(list, mf)
	}
	return index(list).carried(), nil
}

// fits tells whether a series has the value that its family's type promises.
func fits(t dto.MetricType, m *dto.Metric) bool {
	switch t {
	case dto.MetricType_COUNTER:
		return m.Counter != nil
	case dto.MetricType_GAUGE:
		return m.Gauge != nil
	case dto.MetricType_SUMMARY:
		return m.Summary != nil
	case dto.MetricType_HISTOGRAM:
		return m.Histogram != nil
	}
	return true
}
