package load

import (
	"sync"
	"sync/atomic"
	"time"
)

// Reconnect is Example.What for an idle connection that the server closed without a
// word.
const Reconnect = "reconnect"

// keptExamples is how many events of one sort a workload keeps.
const keptExamples = 5

// counters are one workload's, shared by its workers and by who looks on.
type counters struct {
	tickets                    atomic.Int64
	sent, answered             atomic.Int64
	failed                     [classes]atomic.Int64
	connects, told, reconnects atomic.Int64
	moved, repeated            atomic.Int64
	latency                    [phases]histogram
	mu                         sync.Mutex // guards what follows
	generations                map[int]int64
	examples                   []Example
	kept                       map[string]int
}

// Example is one lost request or forced reconnect, with what helps to find it in the
// server's log.
type Example struct {
	Time     time.Time
	Workload string
	Worker   int
	ID       string // X-Request-Id; "" for a reconnect
	What     string // name of the Class, or Reconnect
	Error    string
	Phase    Phase

	Reused     bool   // the connection had carried a request before
	PID        int    // who had answered last on it; 0: unknown
	Generation int    // its generation; 0: unknown
	Local      string // our end: the peer in the server's log; "" if not connected
}

// take reports whether one more request may be sent.
func (c *counters) take(most int64) bool {
	return most == 0 || c.tickets.Add(1) <= most
}

func (c *counters) answeredBy(generation int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generations == nil {
		c.generations = make(map[int]int64)
	}
	c.generations[generation]++
}

func (c *counters) example(e Example) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = make(map[string]int)
	}
	if c.kept[e.What]++; c.kept[e.What] <= keptExamples {
		c.examples = append(c.examples, e)
	}
}

// snapshot may be taken at any time. What is sent is read last, so that it is never
// less than what came of it.
func (c *counters) snapshot() Counts {
	s := Counts{
		Answered:    c.answered.Load(),
		Failures:    make(map[Class]int64),
		Connects:    c.connects.Load(),
		ToldToClose: c.told.Load(),
		Reconnects:  c.reconnects.Load(),
		Moved:       c.moved.Load(),
		Repeated:    c.repeated.Load(),
		Generations: make(map[int]int64),
	}
	for class := range c.failed {
		if n := c.failed[class].Load(); n > 0 {
			s.Failures[Class(class)] = n
		}
	}
	for phase := range c.latency {
		s.Latency[phase] = c.latency[phase].snapshot()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for g, n := range c.generations {
		s.Generations[g] = n
	}
	s.Sent = c.sent.Load()
	return s
}

func (c *counters) exampleList() []Example {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Example(nil), c.examples...)
}
