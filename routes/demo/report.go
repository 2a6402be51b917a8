package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

// report writes the tables and the verdict.
func report(s *screen, tally load.Tally, upgrades []upgrade) {
	total := tally.Total()
	var b strings.Builder
	b.WriteString("\n")
	table(&b, func(row func(...any)) {
		row("requests", "sent", "answered", "lost", "told to close", "cut idle", "moved")
		for _, name := range workloadOrder() {
			c := tally.Workloads[name]
			row(name, grouped(c.Sent), grouped(c.Answered), grouped(c.Failed()), grouped(c.ToldToClose), grouped(c.Reconnects), grouped(c.Moved))
		}
		row("together", grouped(total.Sent), grouped(total.Answered), grouped(total.Failed()), grouped(total.ToldToClose), grouped(total.Reconnects), grouped(total.Moved))
	})
	b.WriteString(`
told to close: the server asked the client to connect again, and the client did
cut idle:      idle connections that the server closed without a word; should be 0
moved:         times that a connection went on in another process

`)
	table(&b, func(row func(...any)) {
		row("latency", "requests", "p50", "p99", "max")
		for phase, name := range []string{"before the first upgrade", "during an upgrade", "after one"} {
			l := total.Latency[phase]
			row(name, grouped(l.Count()), short(l.Quantile(0.5)), short(l.Quantile(0.99)), short(l.Max()))
		}
	})
	b.WriteString("(beyond the time that /slow, /stream and /upload were asked to take)\n\n")
	if len(upgrades) > 0 {
		took, gone := spans(upgrades)
		fmt.Fprintf(&b, "upgrades: from the signal, the new process served after %s; the old one was gone after %s\n", took, gone)
	}
	fmt.Fprintf(&b, "answered by generation: %s\n", generations(total.Generations))
	if len(total.Failures) > 0 {
		fmt.Fprintf(&b, "lost: %s\n", failures(total.Failures))
	}
	fmt.Fprintf(&b, "\n%s.", verdict(total, len(upgrades)))
	s.line("%s", b.String())
}

func table(w io.Writer, fill func(row func(...any))) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := 0
	fill(func(cells ...any) { width = max(width, len(fmt.Sprint(cells[0]))) })
	fill(func(cells ...any) {
		// tabwriter aligns all columns one way; the first is text.
		cells[0] = fmt.Sprintf("%-*s", width, cells[0])
		_, _ = fmt.Fprintf(tw, strings.Repeat("%v\t", len(cells))+"\n", cells...)
	})
	_ = tw.Flush()
}

// verdict is the one thing to be remembered: "0 of 51,234 requests lost through 5
// upgrades".
func verdict(c load.Counts, upgrades int) string {
	plural := "s"
	if upgrades == 1 {
		plural = ""
	}
	return fmt.Sprintf("%s of %s requests lost through %d upgrade%s", grouped(c.Failed()), grouped(c.Sent), upgrades, plural)
}

// grouped writes a number with a comma at each thousand.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// short writes a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}

func goneText(u upgrade) string {
	if u.gone == 0 {
		return "; the old one still drains"
	}
	return "; the old one is gone after " + short(u.gone)
}

// spans are the ranges of both times.
func spans(upgrades []upgrade) (took, gone string) {
	var tooks, gones []time.Duration
	for _, u := range upgrades {
		tooks = append(tooks, u.Took)
		if u.gone > 0 {
			gones = append(gones, u.gone)
		}
	}
	return span(tooks), span(gones)
}

func span(d []time.Duration) string {
	if len(d) == 0 {
		return "(not seen)"
	}
	least, most := short(slices.Min(d)), short(slices.Max(d))
	if least == most {
		return least
	}
	return least + " to " + most
}

func generations(counts map[int]int64) string {
	var parts []string
	for _, g := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d: %s", g, grouped(counts[g])))
	}
	return strings.Join(parts, ", ")
}

func failures(counts map[load.Class]int64) string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %s", class, grouped(counts[class])))
	}
	return strings.Join(parts, ", ")
}
