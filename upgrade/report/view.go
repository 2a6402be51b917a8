package report

import "time"

// MaxRequests is how many requests a [Life] lists.
const MaxRequests = 20

// View is a service as it is at one moment, with all of its generations: what the
// status page shows.
type View struct {
	Time time.Time `json:"time"`
	// Lives are the generations that live, the oldest first.
	Lives []Life `json:"lives"`
	// Upgrade is the one that runs, or the last one; nil before the first.
	Upgrade *Progress `json:"upgrade,omitempty"`
	// Queued tells that an upgrade was requested and waits for its time.
	Queued bool `json:"queued,omitempty"`
}

// Life is one generation as it is at one moment. Generations tell each other.
type Life struct {
	Generation  int          `json:"generation"`
	PID         int          `json:"pid"`
	Build       string       `json:"build,omitempty"`
	State       string       `json:"state"` // the name of an upgrade.State
	Started     time.Time    `json:"started,omitzero"`
	Connections *Connections `json:"connections,omitempty"` // nil: not known
	// Requests are the longest of those that are being carried out, the longest
	// first, at most MaxRequests of Connections.Requests.
	Requests []InFlight `json:"requests,omitempty"`
	// Limits bound each phase of an upgrade by this generation's settings, in
	// milliseconds; 0 is a phase that is turned off.
	Limits map[Phase]float64 `json:"limits_ms,omitempty"`
	// Moves count the connections that it hands over; nil while it does not.
	Moves *Moves `json:"moves,omitempty"`
}

// InFlight is a request that is being carried out.
type InFlight struct {
	Method   string  `json:"method"`
	Path     string  `json:"path"` // without the query, at most 200 bytes
	Age      float64 `json:"age_ms"`
	Hijacked bool    `json:"hijacked,omitempty"` // a WebSocket, for example
}

// Second is what one generation answered in one second.
type Second struct {
	At       int64  `json:"t"` // when it began, in seconds since 1970
	PID      int    `json:"pid"`
	Requests uint64 `json:"n"`
	Failures uint64 `json:"f,omitempty"`   // status 500 and above, and panics
	P95      int64  `json:"p95,omitempty"` // latency, in microseconds; 0 without requests
}

// MarkKind says what a mark is about.
type MarkKind string

// The kinds of marks. The set may grow.
const (
	PhaseBegan MarkKind = "phase"   // Phase has begun
	Outcomes   MarkKind = "outcome" // the upgrade has ended with Result
	Drained    MarkKind = "drained" // the old generation has exited
)

// Mark is a moment of an upgrade.
type Mark struct {
	// ID is when it was, in microseconds since 1970. It ascends from one mark to the
	// next, through all generations.
	ID      int64    `json:"id"`
	Kind    MarkKind `json:"kind"`
	Upgrade int      `json:"upgrade"` // its number
	Phase   Phase    `json:"phase,omitempty"`
	Result  Result   `json:"result,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// At is when it was.
func (m Mark) At() time.Time { return time.UnixMicro(m.ID) }
