package upgrade

import (
	"errors"
	"fmt"
	"slices"
)

// State is where a process stands. doc.go draws the transitions.
type State int32

// The states.
const (
	Starting    State = iota // warms up, takes no traffic
	Serving                  // accepts
	Upgrading                // accepts, while a new generation starts
	Draining                 // a new generation serves; finishes what it has begun
	Withdrawing              // nobody follows; accepts, but says that it is not ready
	Stopping                 // nobody follows; finishes what it has begun
	Stopped
)

var stateNames = [...]string{"starting", "serving", "upgrading", "draining", "withdrawing", "stopping", "stopped"}

func (s State) String() string { return stateNames[s] }

// next lists the states that may follow each state.
var next = map[State][]State{
	Starting:    {Serving, Stopping, Stopped},
	Serving:     {Upgrading, Withdrawing, Stopping},
	Upgrading:   {Serving, Draining, Withdrawing, Stopping},
	Draining:    {Stopped},
	Withdrawing: {Stopping},
	Stopping:    {Stopped},
}

// enter changes the state. Only the owning loop calls it.
func (p *Process) enter(to State) {
	from := p.State()
	if from == to {
		return
	}
	if !slices.Contains(next[from], to) {
		panic(fmt.Sprintf("upgrade: no transition from %s to %s", from, to))
	}
	p.state.Store(int32(to))
	p.log.Info().Stringer("from", from).Stringer("to", to).Msg("state")
}

// State is the state as it is now.
func (p *Process) State() State { return State(p.state.Load()) }

// Ready returns nil while the process takes new requests and is to get them, and
// otherwise an error whose text is the reason in one word: "starting", "draining",
// "withdrawing" or "stopping". A readiness probe answers 503 with it.
func (p *Process) Ready() error {
	switch s := p.State(); {
	case s == Serving, s == Upgrading, s == Starting && p.accepting.Load():
		return nil
	default:
		return errors.New(s.String())
	}
}
