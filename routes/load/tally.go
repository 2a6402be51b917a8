package load

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tally is what became of a run's requests.
type Tally struct {
	Workloads map[string]Counts // by Workload.Name
	Examples  []Example         // the first 5 of each sort and workload
	Ranges    []Range           // the ids that were sent; only once the run has ended
}

// Counts are those of one workload, or of several together. When the run has ended,
// Sent = Answered + Failed(); before, the difference is under way.
type Counts struct {
	Sent     int64
	Answered int64           // completely, and right
	Failures map[Class]int64 // without zeros

	Connects    int64 // connections made
	ToldToClose int64 // by "Connection: close" or Close 1012
	Reconnects  int64 // idle connections that the server closed without a word
	Moved       int64 // times that another process answered on the same connection
	Repeated    int64 // WebSocket messages sent again after they crossed a Close 1012

	Generations map[int]int64 // answers by X-Generation, where the server says it
	Latency     [3]Latency    // by Phase
}

// Failed is the number of lost requests, of all classes.
func (c Counts) Failed() int64 {
	var n int64
	for _, k := range c.Failures {
		n += k
	}
	return n
}

// Add is both together; c and o stay as they are.
func (c Counts) Add(o Counts) Counts {
	c.Sent += o.Sent
	c.Answered += o.Answered
	c.Failures = addMaps(c.Failures, o.Failures)
	c.Connects += o.Connects
	c.ToldToClose += o.ToldToClose
	c.Reconnects += o.Reconnects
	c.Moved += o.Moved
	c.Repeated += o.Repeated
	c.Generations = addMaps(c.Generations, o.Generations)
	for p := range c.Latency {
		c.Latency[p] = c.Latency[p].Add(o.Latency[p])
	}
	return c
}

func addMaps[K comparable](a, b map[K]int64) map[K]int64 {
	sum := make(map[K]int64, len(a)+len(b))
	for _, m := range []map[K]int64{a, b} {
		for k, n := range m {
			sum[k] += n
		}
	}
	return sum
}

// Total is all workloads together.
func (t Tally) Total() Counts {
	total := Counts{}.Add(Counts{})
	for _, c := range t.Workloads {
		total = total.Add(c)
	}
	return total
}

// Add is both runs together, workloads of the same name as one; t and o stay as they
// are.
func (t Tally) Add(o Tally) Tally {
	sum := Tally{
		Workloads: maps.Clone(t.Workloads),
		Examples:  slices.Concat(t.Examples, o.Examples),
		Ranges:    slices.Concat(t.Ranges, o.Ranges),
	}
	if sum.Workloads == nil {
		sum.Workloads = make(map[string]Counts)
	}
	for name, c := range o.Workloads {
		sum.Workloads[name] = sum.Workloads[name].Add(c)
	}
	return sum
}

// ErrLost is in the error of Tally.Err when requests were lost.
var ErrLost = errors.New("requests lost")

// Err is nil if the run has ended, each workload sent something, and each request
// was answered. Otherwise it tells all there is to tell, and is ErrLost if requests
// were lost.
func (t Tally) Err() error {
	c := t.Total()
	if n := c.Failed(); n > 0 {
		return fmt.Errorf("load: %d of %d %w\n%s", n, c.Sent, ErrLost, t)
	}
	if len(t.Workloads) == 0 {
		return errors.New("load: no workload")
	}
	for name, w := range t.Workloads {
		if w.Sent == 0 {
			return fmt.Errorf("load: workload %q has sent nothing, and proves nothing\n%s", name, t)
		}
	}
	if c.Sent != c.Answered {
		return fmt.Errorf("load: %d of %d requests are still under way: stop the run first", c.Sent-c.Answered, c.Sent)
	}
	return nil
}

// String is one line for each workload, and the examples.
func (t Tally) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t.Workloads)) {
		c := t.Workloads[name]
		fmt.Fprintf(&b, "%s: sent %d, answered %d, failed %d", name, c.Sent, c.Answered, c.Failed())
		for _, class := range slices.Sorted(maps.Keys(c.Failures)) {
			fmt.Fprintf(&b, ", %s %d", class, c.Failures[class])
		}
		fmt.Fprintf(&b, "; connects %d, told to close %d, reconnects %d, moved %d, repeated %d; generations %v\n",
			c.Connects, c.ToldToClose, c.Reconnects, c.Moved, c.Repeated, c.Generations)
	}
	for _, e := range t.Examples {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is one line: when, what, which request, on which connection, and why.
func (e Example) String() string {
	conn := "new connection"
	if e.Reused {
		conn = "reused connection"
	}
	if e.PID > 0 {
		conn += fmt.Sprintf(" last answered by pid %d, generation %d", e.PID, e.Generation)
	}
	return fmt.Sprintf("%s %s: %s (%s, worker %d, id %q, %s upgrade, %s, local %q)",
		e.Time.Format("15:04:05.000"), e.What, e.Error, e.Workload, e.Worker, e.ID, e.Phase, conn, e.Local)
}
