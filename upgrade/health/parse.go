package health

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
)

// ParseRule reads the text form of a rule:
//
//	METRIC OP LIMIT [over DURATION] [min REQUESTS]
//	METRIC OP FACTORx old [or LIMIT] [over DURATION] [min REQUESTS]
//	probe PROBE fails < N [over DURATION]
//
//	METRIC               OP  LIMIT           min, unless given
//	success              >=  percent         50
//	p50, p95             <=  duration        50
//	p99                  <=  duration        100
//	panics               <=  number          1, and not compared with old
//	memory               <=  B, KiB, MiB...  0
//	cpu                  <=  % of one core   0
//	goroutines           <=  number          0
//
// It looks back over 10 seconds unless it says otherwise. "1.5x old" is the figure
// of the old generation over the same time; "or 20ms" is allowed in any case, since
// twice next to nothing is not much. Below the minimum of requests, of either
// generation where both matter, the verdict is [Unknown]. PROBE is the text of
// [ParseProbe]; it is asked every second.
func ParseRule(s string) (Rule, error) {
	ws, err := split(s)
	example := `for example "success >= 99% over 10s min 50" or "p95 <= 1.5x old"`
	if err == nil {
		var r Rule
		if r, err = ruleOf(ws); err == nil {
			return r, nil
		}
		if r.metric != nil {
			example = "for example " + r.metric.example
		}
	}
	return Rule{}, fmt.Errorf("rule %q: %w; %s", clip(s), err, example)
}

// ParseRules reads several, and reports the first that is bad.
func ParseRules(texts ...string) ([]Rule, error) {
	var rules []Rule
	for _, s := range texts {
		r, err := ParseRule(s)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// ruleOf returns the rule with its metric, as soon as that is known, also when it is bad.
func ruleOf(ws []word) (Rule, error) {
	if len(ws) == 0 {
		return Rule{}, errors.New("it is empty")
	}
	name := ws[0].text
	if name == probeMetric.name {
		return probeRuleOf(ws[1:])
	}
	i := slices.IndexFunc(metrics, func(m *metric) bool { return m.name == name })
	if i < 0 {
		var names []string
		for _, m := range metrics {
			names = append(names, m.name)
		}
		return Rule{}, fmt.Errorf("%q cannot be measured: want %s or probe", clip(name), strings.Join(names, ", "))
	}
	m := metrics[i]
	r := Rule{metric: m, limit: math.NaN(), over: DefaultOver, min: m.min}
	op := "<="
	if m.atLeast {
		op = ">="
	}
	words := texts(ws[1:])
	if len(words) == 0 || words[0] != op {
		return r, fmt.Errorf("%s goes with %s", name, op)
	}
	words, err := r.limits(words[1:])
	if err != nil {
		return r, err
	}
	return r, r.tail(words)
}

// limits reads LIMIT, or FACTORx old [or LIMIT], and returns what follows.
func (r *Rule) limits(words []string) (rest []string, err error) {
	if len(words) == 0 {
		return nil, errors.New("the limit is missing")
	}
	factor, isFactor := strings.CutSuffix(words[0], "x")
	switch {
	case !isFactor:
		r.limit, err = r.metric.parse(words[0])
		return words[1:], err
	case len(words) < 2 || words[1] != "old":
		return nil, fmt.Errorf(`%s: want "%s old"`, clip(words[0]), clip(words[0]))
	case r.metric.fixed:
		return nil, fmt.Errorf("%s are not compared with the old generation's", r.metric.name)
	}
	r.factor, err = strconv.ParseFloat(factor, 64)
	if err != nil || !(r.factor >= 0.001 && r.factor <= 1000) {
		return nil, fmt.Errorf("%s: want a factor from 0.001x to 1000x, such as 1.5x", clip(words[0]))
	}
	words = words[2:]
	if len(words) == 0 || words[0] != "or" {
		return words, nil
	}
	if len(words) < 2 {
		return nil, errors.New("or: the limit is missing")
	}
	r.limit, err = r.metric.parse(words[1])
	return words[2:], err
}

// tail reads over and min, in any order.
func (r *Rule) tail(words []string) error {
	seen := map[string]bool{}
	for ; len(words) > 0; words = words[2:] {
		key := words[0]
		if key != "over" && (key != "min" || r.probe != nil) {
			return fmt.Errorf("%q is not known here", clip(key))
		}
		if seen[key] {
			return fmt.Errorf("%s stands there twice", key)
		}
		seen[key] = true
		if len(words) < 2 {
			return fmt.Errorf("%s: the value is missing", key)
		}
		var err error
		if key == "min" {
			r.min, err = strconv.ParseUint(words[1], 10, 31)
		} else {
			r.over, err = time.ParseDuration(words[1])
		}
		switch {
		case key == "min" && err != nil:
			return fmt.Errorf("min %s: want a number of requests, such as 50", clip(words[1]))
		case key == "over" && (err != nil || r.over < time.Second || r.over > MaxWindow):
			return fmt.Errorf("over %s: want a duration from 1s to 1h", clip(words[1]))
		}
	}
	return nil
}

func probeRuleOf(ws []word) (Rule, error) {
	r := ProbeRule(nil, 1)
	i := -1 // the last "fails" that is not in quotes
	for j, w := range ws {
		if w.text == "fails" && !w.quoted {
			i = j
		}
	}
	if i < 0 || len(ws) < i+3 || ws[i+1].text != "<" {
		return r, errors.New(`it does not end with "fails < N"`)
	}
	n, err := strconv.Atoi(ws[i+2].text)
	if err != nil || n < 1 || n > 10000 {
		return r, fmt.Errorf("fails < %s: want a number from 1", clip(ws[i+2].text))
	}
	r.fails = n
	if r.probe, err = probeOf(ws[:i]); err != nil {
		return r, err
	}
	if err := r.tail(texts(ws[i+3:])); err != nil {
		return r, err
	}
	if most := int(r.over / DefaultProbeInterval); n > most {
		return r, fmt.Errorf("it can never fail %d times over %s, being asked every second", n, shortDuration(r.over))
	}
	return r, nil
}

// String gives the text form, with every default written out.
func (r Rule) String() string {
	if r.probe != nil {
		return fmt.Sprintf("probe %s fails < %d over %s", r.probe, r.fails, shortDuration(r.over))
	}
	m := r.metric
	op := "<="
	if m.atLeast {
		op = ">="
	}
	s := m.name + " " + op
	if r.Compares() {
		s += " " + shortNumber(r.factor) + "x old"
		if !math.IsNaN(r.limit) {
			s += " or"
		}
	}
	if !math.IsNaN(r.limit) {
		s += " " + m.text(r.limit)
	}
	if !m.now || r.over != DefaultOver {
		s += " over " + shortDuration(r.over)
	}
	if r.min > 0 || m.min > 0 {
		s += " min " + strconv.FormatUint(r.min, 10)
	}
	return s
}

func parseShare(s string) (float64, error) {
	v, err := parsePercent(s)
	if err != nil || v > 100 {
		return 0, fmt.Errorf("%s: want a percentage of at most 100%%, such as 99.5%%", clip(s))
	}
	return v, nil
}

func parsePercent(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v > 0 && v <= 1e6) {
		return 0, fmt.Errorf("%s: want a percentage, such as 90%%", clip(s))
	}
	return v, nil
}

func parseLatency(s string) (float64, error) {
	d, err := limitDuration(s)
	return float64(d), err
}

func parseCount(s string) (float64, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s: want a whole number", clip(s))
	}
	return float64(n), nil
}

func parseBytes(s string) (float64, error) {
	n, err := units.ParseBase2Bytes(s)
	// The library takes MB for MiB, which is a habit not to be had in a new file.
	if err != nil || n <= 0 || n > 1<<50 || decimalUnit(s) {
		return 0, fmt.Errorf("%s: want a size in B, KiB, MiB or GiB, such as 512MiB", clip(s))
	}
	return float64(n), nil
}

// decimalUnit finds a K, M, G… that "iB" does not follow.
func decimalUnit(s string) bool {
	for i, c := range s {
		if strings.ContainsRune("KMGTPE", c) && !strings.HasPrefix(s[i+1:], "iB") {
			return true
		}
	}
	return false
}

func shareText(v float64) string   { return shortNumber(v) + "%" }
func latencyText(v float64) string { return shortDuration(time.Duration(v)) }
func bytesText(v float64) string   { return units.Base2Bytes(v).String() }
func shortNumber(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
func count(v float64) string       { return thousands(uint64(v)) }
