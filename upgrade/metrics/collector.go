package metrics

import (
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// View is a process as a scrape finds it.
type View struct {
	Status   report.Status
	Possible bool // it could be upgraded, if the binary is good

	Counts    handoff.Counts // of every server
	Totals    handoff.Totals
	Moves     Moves
	Listeners []*handoff.Listener

	// Deadline is when the drain that is on, this generation's or its predecessor's, is to
	// be over; zero: there is none. Left is what it has left.
	Deadline time.Time
	Left     int
}

// Moves counts connections that were offered to a new generation.
type Moves struct{ Moved, Refused, TakenBack int }

// summedGauges are those of which the service has as many as both generations together.
var summedGauges = []string{"holdfast_connections", "holdfast_http_requests_in_flight"}

// collector has a look at the process for each scrape.
type collector struct {
	view   func() View
	states []string
}

// NewCollector makes the collector of everything that is looked at when it is asked
// for. states are the names of the states that a process can be in.
func NewCollector(view func() View, states []string) prometheus.Collector {
	return &collector{view, states}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

var (
	buildInfo  = desc("build_info", "Always 1: the build that serves, its pid and its Go version.", "build", "pid", "go_version")
	generation = desc("generation", "Number of the serving process in the chain of upgrades, from 1. It falls to 1 with a restart.")
	startTime  = desc("start_time_seconds", "When this generation began, in seconds since 1970.")
	state      = desc("state", "1 for the state that this generation is in: see go doc upgrade.", "state")
	phase      = desc("upgrade_phase", "1 for the phase that the running upgrade is in; drain: of the predecessor.", "phase")
	queued     = desc("upgrade_queued", "1 while a requested upgrade waits for its time.")
	possible   = desc("upgrade_possible", "0 if this process cannot be upgraded any more and has to be restarted.")

	connections = desc("connections", "Open connections of all generations, by state: new, active and idle as in http.ConnState, hijacked by a handler such as that of a WebSocket.", "state")
	inFlight    = desc("http_requests_in_flight", "Requests of all generations that are being carried out, without hijacked connections.")
	accepted    = desc("connections_accepted_total", "Connections that came from the listeners.")
	closed      = desc("connections_closed_total", "Connections that ended here. ended: in good order, silent: by a drain, when nothing came, cut: by the drain deadline.", "reason")
	moved       = desc("connections_moved_total", "Connections that were handed to a new generation.")
	refused     = desc("connections_refused_total", "Connections that were offered to a new generation, which did not take them: they stayed.")
	takenBack   = desc("connections_taken_back_total", "Connections that a new generation has given back.")

	queueDepth = desc("accept_queue_connections", "Connections that wait in the accept queue (TCP on Linux; of Unix sockets the kernel does not tell it in this way).", "listener", "address")
	queueLimit = desc("accept_queue_limit", "How many connections the accept queue takes: what comes then is dropped by the kernel.", "listener", "address")

	predecessors = desc("predecessors", "1 while the previous generation lives.")
	drainLeft    = desc("drain_connections", "Connections that the drain has left, of the previous generation or of a stop.")
	drainTime    = desc("drain_remaining_seconds", "Time until the deadline of that drain; below 0 it is overdue, 0 without one.")
)

// phases are the values of the label phase.
var phases = []report.Phase{
	report.Spawn, report.Start, report.WarmUp, report.Gate, report.Canary, report.Takeover, report.Probation, report.Commit, report.Drain,
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, generation, startTime, state, phase, queued, possible, connections, inFlight, accepted, closed,
		moved, refused, takenBack, queueDepth, queueLimit, predecessors, drainLeft, drainTime,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	v := c.view()
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	count := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	s := v.Status
	gauge(buildInfo, 1, s.Build, strconv.Itoa(s.PID), runtime.Version())
	gauge(generation, float64(s.Generation))
	gauge(startTime, float64(s.Started.UnixMilli())/1000)
	for _, name := range c.states {
		gauge(state, one(s.State == name), name)
	}
	for _, p := range phases {
		gauge(phase, one(s.Phase == p || p == report.Drain && s.Predecessor != nil && s.Phase == ""), string(p))
	}
	gauge(queued, one(s.Queued))
	gauge(possible, one(v.Possible))

	n := v.Counts
	gauge(connections, float64(n.New), "new")
	gauge(connections, float64(n.Active), "active")
	gauge(connections, float64(n.Idle), "idle")
	gauge(connections, float64(n.Hijacked), "hijacked")
	gauge(inFlight, float64(n.InFlight))
	count(accepted, v.Totals.Accepted)
	count(closed, v.Totals.Closed, "ended")
	count(closed, v.Totals.Retired, "silent")
	count(closed, v.Totals.Dropped, "cut")
	count(moved, v.Moves.Moved)
	count(refused, v.Moves.Refused)
	count(takenBack, v.Moves.TakenBack)

	for _, ln := range v.Listeners {
		if waiting, limit, known := ln.Backlog(); known {
			gauge(queueDepth, float64(waiting), ln.Name(), ln.Addr().String())
			gauge(queueLimit, float64(limit), ln.Name(), ln.Addr().String())
		}
	}
	gauge(predecessors, one(s.Predecessor != nil))
	gauge(drainLeft, float64(v.Left))
	left := 0.0
	if !v.Deadline.IsZero() {
		left = time.Until(v.Deadline).Seconds()
	}
	gauge(drainTime, left)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
