package health

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// How figures are written for people: "480 ms", "1,204", "99.95 %", "512 MiB".

func seconds(d time.Duration) string {
	v, unit := float64(d), "ns"
	switch {
	case d >= time.Second || d == 0:
		v, unit = v/float64(time.Second), "s"
	case d >= time.Millisecond:
		v, unit = v/float64(time.Millisecond), "ms"
	case d >= time.Microsecond:
		v, unit = v/float64(time.Microsecond), "µs"
	}
	return three(v) + " " + unit
}

// three writes a number with three digits, or as many as stand before the point.
func three(v float64) string {
	digits := 2
	switch {
	case v >= 100:
		digits = 0
	case v >= 10:
		digits = 1
	}
	return trim(strconv.FormatFloat(v, 'f', digits, 64))
}

// trim drops the zeros behind a decimal point.
func trim(s string) string {
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// percent rounds down: what is short of a limit must not look like it.
func percent(v float64) string {
	return trim(strconv.FormatFloat(math.Floor(v*100+1e-9)/100, 'f', 2, 64)) + " %"
}

func byteSize(v float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if v < 1024 || unit == "GiB" {
			return three(v) + " " + unit
		}
		v /= 1024
	}
	return ""
}

// plural writes a count with its noun.
func plural(n uint64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return thousands(n) + " " + noun
}

// shortDuration writes "10s", where Duration.String has "10s" but "1m0s" for a
// minute. time.ParseDuration reads it.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
