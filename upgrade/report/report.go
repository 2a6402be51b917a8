// Package report is what a service says of itself: its status, the fate of each
// upgrade, the events in between, and the file in which the last upgrades are kept.
//
// # Promise
//
// Every value is JSON with names that stay. A reader ignores fields that it does not
// know, so that generations and commands of different versions understand each other.
// [Store] keeps the last [Keep] outcomes across generations, restarts and crashes: its
// file is replaced atomically, and one that is damaged is set aside and never fatal.
//
// # Limits
//
// One process at a time writes a store: the generation that serves. Between a failure
// of the disk and the next report, what could not be written is in memory only.
//
// # Example
//
//	list, err := report.Read("/run/app/app.pid.reports")
//	for _, o := range list {
//		fmt.Println(o) // upgrade 7 succeeded: pid 22419 serves in place of pid 22408, after 27ms
//	}
//
// # One upgrade
//
//	begin ──▶ Outcome {running, phase} ──┬──▶ {failed, phase, reason, stderr}
//	                                     └──▶ {succeeded, stderr} ──▶ + connections
//	                                          at the commit            at the predecessor's end
package report

import (
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
)

// Status is what a generation says of itself. The serving one writes it beside the
// PID file, as JSON in PIDFile.state, whenever it changes; GET /status has more of it.
type Status struct {
	PID        int       `json:"pid"`
	Generation int       `json:"generation"`
	Build      string    `json:"build"`
	State      string    `json:"state"` // the name of an upgrade.State
	Started    time.Time `json:"started"`
	// Phase is where the running upgrade stands; empty while none runs.
	Phase Phase `json:"phase,omitempty"`
	// Queued tells that an upgrade was requested and waits for its time.
	Queued bool `json:"queued,omitempty"`
	// Upgrade is the latest one that this chain of generations tried: the one that
	// runs, or the last.
	Upgrade *Outcome `json:"upgrade,omitempty"`
	// Last is the latest one that has ended. Not in the state file.
	Last *Outcome `json:"last,omitempty"`
	// Connections are those of this generation. Not in the state file.
	Connections *Connections `json:"connections,omitempty"`
	// Predecessor is the previous generation while it drains. Not in the state file.
	Predecessor *Predecessor `json:"predecessor,omitempty"`
}

// Connections counts the connections of one generation, without those of the admin
// listener.
type Connections struct {
	Open     int `json:"open"`
	Silent   int `json:"silent"`   // at a message boundary, waiting for the client
	Hijacked int `json:"hijacked"` // in the hands of a handler: WebSockets, for example
	Requests int `json:"requests"` // being carried out
}

// Predecessor is a previous generation that has not exited.
type Predecessor struct {
	PID        int `json:"pid"`
	Generation int `json:"generation,omitempty"` // 0: not known
	// Connections is nil until it has said how many it has left, which one of an
	// earlier version never does.
	Connections *Connections `json:"connections,omitempty"`
}

// Phase is where an upgrade stands, or failed. The set may grow.
type Phase string

// The phases, in their order.
const (
	Spawn     Phase = "spawn"     // the binary is checked and started
	Start     Phase = "start"     // the new process begins, and takes state
	WarmUp    Phase = "warm-up"   // it runs the service's warm-up hooks
	Gate      Phase = "gate"      // it asks its own probes
	Canary    Phase = "canary"    // both accept, and rules judge the new one
	Takeover  Phase = "takeover"  // connections move to it
	Probation Phase = "probation" // it has all the traffic, and the old one waits
	Commit    Phase = "commit"    // it is ready, writes the PID file, tells the service manager
	Drain     Phase = "drain"     // the old process finishes
)

// Outcome is the fate of one upgrade.
type Outcome struct {
	Number int    `json:"number"` // counts the attempts of the service, from 1
	Result Result `json:"result"`
	// Phase is where an upgrade stands that runs, and where one failed.
	Phase  Phase  `json:"phase,omitempty"`
	Reason string `json:"reason,omitempty"` // why it failed

	From           int    `json:"from_pid"`
	FromGeneration int    `json:"from_generation,omitempty"`
	FromBuild      string `json:"from_build,omitempty"`
	To             int    `json:"to_pid,omitempty"` // of the new process; this and what follows where known
	ToGeneration   int    `json:"to_generation,omitempty"`
	ToBuild        string `json:"to_build,omitempty"`

	By        string    `json:"by,omitempty"` // who asked: "signal" or "admin"
	Forced    bool      `json:"forced,omitempty"`
	Requested time.Time `json:"requested"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended,omitzero"`

	// Durations is how long each phase took, in milliseconds.
	Durations map[string]float64 `json:"phases_ms,omitempty"`
	// Stderr is the end of what the new process wrote to its standard error until the
	// commit: at most 20 lines of at most 500 bytes. Not in the state file, which
	// everyone may read.
	Stderr []string `json:"stderr,omitempty"`
	// Connections is the old generation's account; it comes when that one has drained.
	Connections *handoff.Account `json:"connections,omitempty"`
}

// Same tells whether two outcomes are of the same upgrade.
func (o Outcome) Same(other Outcome) bool {
	return o.Number == other.Number && o.From == other.From && o.Began.Equal(other.Began)
}

// String says it in one sentence.
func (o Outcome) String() string {
	switch o.Result {
	case Succeeded:
		return fmt.Sprintf("upgrade %d succeeded: pid %d serves in place of pid %d, after %s",
			o.Number, o.To, o.From, o.Ended.Sub(o.Requested).Round(time.Millisecond))
	case Failed:
		return fmt.Sprintf("upgrade %d failed (phase %s): %s; pid %d goes on serving", o.Number, o.Phase, o.Reason, o.From)
	}
	return fmt.Sprintf("upgrade %d runs (phase %s)", o.Number, o.Phase)
}

// Result is how an upgrade ended.
type Result string

// The results.
const (
	Running   Result = "running"
	Succeeded Result = "succeeded"
	Failed    Result = "failed"
)

// EventKind says what an event is about.
type EventKind string

// The kinds of events. The set may grow.
const (
	// Changed is a new state, phase or queue; and the first event of each stream.
	Changed EventKind = "status"
	// Ended is an upgrade that has succeeded or failed; Outcome has it.
	Ended EventKind = "outcome"
	// Completed is the account of an upgrade, from the generation that has drained.
	Completed EventKind = "report"
)

// Event is one change, with the status that it led to.
type Event struct {
	Time    time.Time `json:"time"`
	Kind    EventKind `json:"event"`
	Status  Status    `json:"status"`
	Outcome *Outcome  `json:"outcome,omitempty"`
}
