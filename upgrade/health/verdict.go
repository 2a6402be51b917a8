package health

import (
	"fmt"
	"math"
	"time"
)

// Verdict is what a rule says.
type Verdict int

// The verdicts.
const (
	Unknown Verdict = iota // too few requests, or a figure that has not come
	Healthy
	Broken
)

// String gives "unknown", "healthy" or "broken".
func (v Verdict) String() string {
	switch v {
	case Healthy:
		return "healthy"
	case Broken:
		return "broken"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *Verdict) UnmarshalText(b []byte) error {
	for _, known := range []Verdict{Unknown, Healthy, Broken} {
		if string(b) == known.String() {
			*v = known
			return nil
		}
	}
	return fmt.Errorf("health: %q is not a verdict", b)
}

// Result is what one rule found.
type Result struct {
	Rule    string  `json:"rule"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"` // one sentence with the figures

	Unit     string   `json:"unit"` // of the three that follow
	Value    *float64 `json:"value,omitempty"`
	Allowed  *float64 `json:"allowed,omitempty"`
	Old      *float64 `json:"old,omitempty"` // the old generation's
	Requests uint64   `json:"requests"`      // of this generation, in that time
}

// Judge applies a rule to the figures of this generation and, where it compares, to
// those of the old one over the same time; nil: they have not come. A rule about a
// probe is Unknown here: only a [Judge] asks it.
func (r Rule) Judge(own Snapshot, old *Snapshot) Result {
	res := Result{Rule: r.String(), Unit: r.metric.unit, Requests: own.Requests}
	if r.probe != nil {
		return res.as(Unknown, "the probe has not been asked")
	}
	m := r.metric
	value, known := m.value(own)
	if !known {
		return res.as(Unknown, m.subject+" is not known")
	}
	enough := own.Requests >= r.min
	if enough || own.Requests > 0 || r.min == 0 {
		res.Value = m.scaled(value)
	}
	// The count of panics can only be exceeded once and for all; the rest needs numbers.
	if !enough && (!m.fixed || value <= r.limit) {
		return res.as(Unknown, fmt.Sprintf("%s is not known yet: %s, at least %s wanted", m.subject, traffic(own), thousands(r.min)))
	}
	allowed, why := r.limit, ""
	if r.Compares() {
		if old == nil {
			return res.as(Unknown, fmt.Sprintf("%s is %s, the old generation's is not known yet", m.subject, m.say(value)))
		}
		oldValue, oldKnown := m.value(*old)
		if !oldKnown {
			return res.as(Unknown, fmt.Sprintf("%s is %s, the old generation's is not known", m.subject, m.say(value)))
		}
		if old.Requests < r.min {
			return res.as(Unknown, fmt.Sprintf("%s is %s, the old generation's is not known yet: it had %s, at least %s wanted",
				m.subject, m.say(value), traffic(*old), thousands(r.min)))
		}
		res.Old = m.scaled(oldValue)
		allowed, why = r.against(oldValue)
	}
	res.Allowed = m.scaled(allowed)
	bad, relation, word := value > allowed, "more than", "allowed"
	if m.atLeast {
		bad, relation, word = value < allowed, "less than", "required"
	}
	var sentence string
	switch {
	case bad && why != "":
		sentence = fmt.Sprintf("%s is %s, %s %s (%s %s)", m.subject, m.say(value), relation, why, m.say(allowed), word)
	case bad:
		sentence = fmt.Sprintf("%s is %s, %s the %s %s", m.subject, m.say(value), relation, m.say(allowed), word)
	case why != "":
		sentence = fmt.Sprintf("%s is %s, %s %s, which is %s", m.subject, m.say(value), m.say(allowed), word, why)
	default:
		sentence = fmt.Sprintf("%s is %s, %s %s", m.subject, m.say(value), m.say(allowed), word)
	}
	if !m.now {
		sentence += ", " + traffic(own)
	}
	if bad {
		return res.as(Broken, sentence)
	}
	return res.as(Healthy, sentence)
}

// against gives what the old generation's figure allows, and where that comes from.
func (r Rule) against(old float64) (allowed float64, why string) {
	allowed = r.factor * old
	why = fmt.Sprintf("%s x the old generation's %s", shortNumber(r.factor), r.metric.say(old))
	if math.IsNaN(r.limit) {
		return allowed, why
	}
	if (r.metric.atLeast && r.limit < allowed) || (!r.metric.atLeast && r.limit > allowed) {
		return r.limit, "the limit where the old generation's is " + r.metric.say(old)
	}
	return allowed, why
}

func traffic(s Snapshot) string {
	return plural(s.Requests, "request") + " in " + seconds(s.Over.Round(100*time.Millisecond))
}

func (m *metric) scaled(v float64) *float64 {
	v *= m.scale
	return &v
}

func (res Result) as(v Verdict, reason string) Result {
	res.Verdict, res.Reason = v, reason
	return res
}
