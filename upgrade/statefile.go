package upgrade

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
)

// Status is what the serving generation writes beside the PID file, as JSON in
// PIDFile.state, whenever it changes. [Wait] reads it; so may anyone.
type Status struct {
	PID        int       `json:"pid"`
	Generation int       `json:"generation"`
	Build      string    `json:"build"`
	State      string    `json:"state"` // a State's name
	Started    time.Time `json:"started"`
	// Queued tells that an upgrade was requested and waits for its time.
	Queued bool `json:"queued,omitempty"`
	// Upgrade is the latest one that this chain of generations tried.
	Upgrade *Outcome `json:"upgrade,omitempty"`
}

// Outcome is the fate of one upgrade.
type Outcome struct {
	Number    int       `json:"number"` // counts the attempts of the chain, from 1
	Result    Result    `json:"result"`
	Phase     string    `json:"phase,omitempty"`  // where it failed: "spawn", "start" or "commit"
	Reason    string    `json:"reason,omitempty"` // why it failed
	From      int       `json:"from_pid"`
	To        int       `json:"to_pid,omitempty"` // where known
	Requested time.Time `json:"requested"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended,omitzero"`
	// Connections is the old generation's account; it comes when that one has drained.
	Connections *handoff.Account `json:"connections,omitempty"`
}

// Result is how an upgrade ended.
type Result string

// The results.
const (
	Running   Result = "running"
	Succeeded Result = "succeeded"
	Failed    Result = "failed"
)

// ReadStatus reads the status that belongs to a PID file.
func ReadStatus(pidFile string) (Status, error) {
	var s Status
	b, err := os.ReadFile(statePath(pidFile))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("status of %s: %w", pidFile, err)
	}
	return s, nil
}

// publish writes the status as the loop sees it.
func (l *loop) publish() { l.writeStatus(l.State(), l.queued != nil) }

// writeStatus writes the status. It is a report, not a record: that it cannot be
// written (a full disk) must not stop an upgrade, so the error is only logged.
func (p *Process) writeStatus(s State, queued bool) {
	if p.pid == nil {
		return
	}
	b, err := json.Marshal(Status{
		PID: os.Getpid(), Generation: p.generation, Build: p.cfg.Build,
		State: s.String(), Started: p.started, Queued: queued, Upgrade: p.outcome,
	})
	if err == nil {
		err = replaceFile(statePath(p.pid.path), append(b, '\n'))
	}
	if err != nil {
		p.log.Warn().Err(err).Msg("status not written")
	}
}
