package health

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// CPUUnknown is the CPU of a [Snapshot] of a process that was not watched for long
// enough.
const CPUUnknown = -1

// Snapshot is the figures of a process over a time. It is a value, and JSON, so that
// one generation can give it to the other: see [Encode].
type Snapshot struct {
	Over time.Duration `json:"over_ns"` // the time that it covers
	At   time.Time     `json:"at"`      // when that ended

	Requests  uint64 `json:"requests"`
	Successes uint64 `json:"successes"` // status below 500, no panic
	Panics    uint64 `json:"panics"`

	// Latencies, within 3.2 % or half a microsecond; 0 without requests.
	P50 time.Duration `json:"p50_ns"`
	P95 time.Duration `json:"p95_ns"`
	P99 time.Duration `json:"p99_ns"`

	Memory     uint64  `json:"memory_bytes"` // resident; 0: not known
	CPU        float64 `json:"cpu"`          // share of one core, 1 is all of it; negative: not known
	Goroutines int     `json:"goroutines"`   // 0: not known
}

// Bounds of what [Decode] accepts.
const (
	maxSnapshots = 64
	maxEncoded   = 64 << 10
)

// encodingVersion changes when the meaning of a field does; a field more is none.
const encodingVersion = 1

type envelope struct {
	Version   int        `json:"v"`
	Snapshots []Snapshot `json:"snapshots"`
}

// Encode gives snapshots as bytes for the other generation: one for each time over
// which its rules look ([Spans]). At most 64.
func Encode(snapshots ...Snapshot) ([]byte, error) {
	if len(snapshots) > maxSnapshots {
		return nil, fmt.Errorf("health: %d snapshots: want at most %d", len(snapshots), maxSnapshots)
	}
	b, err := json.Marshal(envelope{encodingVersion, snapshots})
	if err != nil {
		return nil, fmt.Errorf("health: encode snapshots: %w", err)
	}
	return b, nil
}

// Decode reads what [Encode] of this or another version of this package wrote. It
// refuses figures that cannot be.
func Decode(b []byte) ([]Snapshot, error) {
	if len(b) > maxEncoded {
		return nil, fmt.Errorf("health: decode snapshots: %d bytes: want at most %d", len(b), maxEncoded)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("health: decode snapshots: %w", err)
	}
	if e.Version != encodingVersion {
		return nil, fmt.Errorf("health: decode snapshots: version %d: this process knows %d", e.Version, encodingVersion)
	}
	if len(e.Snapshots) > maxSnapshots {
		return nil, fmt.Errorf("health: decode snapshots: %d of them: want at most %d", len(e.Snapshots), maxSnapshots)
	}
	for i, s := range e.Snapshots {
		if err := s.plausible(); err != nil {
			return nil, fmt.Errorf("health: decode snapshots: number %d: %w", i+1, err)
		}
	}
	return e.Snapshots, nil
}

func (s Snapshot) plausible() error {
	switch {
	case s.Over < 0 || s.Over > 2*MaxWindow:
		return fmt.Errorf("it covers %s", s.Over)
	case s.Successes > s.Requests:
		return errors.New("more successes than requests")
	case s.P50 < 0 || s.P95 < s.P50 || s.P99 < s.P95:
		return errors.New("its latencies do not ascend")
	case s.Goroutines < 0:
		return errors.New("fewer goroutines than none")
	}
	return nil
}

// success is the share of successes in percent.
func (s Snapshot) success() float64 {
	if s.Requests == 0 {
		return 0
	}
	return 100 * float64(s.Successes) / float64(s.Requests)
}

// ForSpan finds the snapshot that was taken over a time; the longest that is no
// longer, where a young process could not look back so far.
func ForSpan(snapshots []Snapshot, over time.Duration) (Snapshot, bool) {
	var best Snapshot
	found := false
	for _, s := range snapshots {
		if s.Over <= over && (!found || s.Over > best.Over) {
			best, found = s, true
		}
	}
	return best, found
}
