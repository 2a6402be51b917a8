package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// Status is what the serving generation writes beside the PID file, as JSON in
// PIDFile.state, whenever it changes. [Wait] reads it; so may anyone.
type Status = report.Status

// Outcome is the fate of one upgrade.
type Outcome = report.Outcome

// Result is how an upgrade ended.
type Result = report.Result

// The results.
const (
	Running   = report.Running
	Succeeded = report.Succeeded
	Failed    = report.Failed
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

// publish tells the status as the loop sees it.
func (l *loop) publish() {
	if l.State() == Starting { // the file is still the previous generation's
		l.note(Starting, l.queued != nil)
		return
	}
	l.writeStatus(l.State(), l.queued != nil)
}

// writeStatus tells the status, and writes it. It is a report, not a record: that it
// cannot be written (a full disk) must not stop an upgrade, so the error is only logged.
func (p *Process) writeStatus(s State, queued bool) {
	st := p.note(s, queued)
	if p.pid == nil {
		return
	}
	if st.Upgrade != nil {
		public := *st.Upgrade
		public.Stderr = nil
		st.Upgrade = &public
	}
	b, err := json.Marshal(st)
	if err == nil {
		err = replaceFile(statePath(p.pid.path), append(b, '\n'))
	}
	if err != nil {
		p.log.Warn().Err(err).Msg("status not written")
	}
}

// note takes down the status for those who ask, and tells those who listen.
func (p *Process) note(s State, queued bool) Status {
	st := Status{
		PID: os.Getpid(), Generation: p.generation, Build: p.cfg.Build,
		State: s.String(), Started: p.started, Queued: queued,
	}
	if p.outcome != nil {
		o := *p.outcome
		st.Upgrade = &o
		if o.Result == Running && s == Upgrading {
			st.Phase = o.Phase
		}
		if o.Result != Running || s == Upgrading { // or it is about us, and not ours to tell
			p.follow(o)
		}
	}
	p.status.Store(&st)
	p.tell(report.Changed, nil)
	return st
}

// follow marks what an upgrade has come to. After the one that made this generation,
// the old one drains.
func (p *Process) follow(o Outcome) {
	if p.history.Follow(o) && o.Result == Succeeded && o.To == os.Getpid() && p.draining.Load() != nil {
		p.history.Note(report.Mark{Kind: report.PhaseBegan, Upgrade: o.Number, Phase: report.Drain})
	}
}

// record keeps a report. That it cannot be written is no reason to stop.
func (p *Process) record(kind report.EventKind, o Outcome) {
	if err := p.reports.Put(o); err != nil {
		p.log.Warn().Err(err).Msg("reports not written: the latest are in memory until there is room again")
	}
	p.tell(kind, &o)
}

// openReports reads what earlier generations have left.
func (p *Process) openReports() {
	var err error
	p.reports, err = report.Open(p.cfg.ReportsFile())
	p.logReports(err)
}

func (p *Process) logReports(err error) {
	var damaged *report.DamagedError
	switch {
	case err == nil:
	case errors.As(err, &damaged):
		p.log.Error().Err(damaged.Err).Str("file", damaged.Path).Str("set_aside", damaged.Aside).Msg("reports are damaged: going on with those that can be read")
	default:
		p.log.Error().Err(err).Msg("reports not read")
	}
}

// number is that of the next upgrade.
func (l *loop) number() int {
	n := 0
	if l.outcome != nil {
		n = l.outcome.Number
	}
	if last, ok := l.reports.Last(); ok {
		n = max(n, last.Number)
	}
	return n + 1
}

// early is what the old generation has said before this one's loop knew that it
// serves.
type early struct {
	report *Outcome
	bye    *handoff.Account
}

// onReport takes the old generation's view of the upgrade that made this one.
func (l *loop) onReport(o Outcome) {
	if l.State() == Starting {
		l.early.report = &o
		return
	}
	mine := l.outcome
	switch {
	case mine == nil: // without a PID file nothing has told us of it
		o.Result, o.Phase = Succeeded, ""
		o.To, o.ToGeneration, o.ToBuild = os.Getpid(), l.generation, l.cfg.Build
		if o.Ended.IsZero() {
			o.Ended = time.Now()
		}
		l.outcome = &o
	case mine.Same(o) && mine.Result == Succeeded:
		mine.Stderr, mine.Durations = o.Stderr, o.Durations
	default:
		return
	}
	l.record(report.Completed, *l.outcome)
	l.note(l.State(), l.queued != nil)
}

// onBye takes the old generation's account of the upgrade that made this one.
func (l *loop) onBye(account *handoff.Account) {
	if account == nil {
		return
	}
	if l.State() == Starting {
		l.early.bye = account
		return
	}
	o := l.outcome
	if o == nil || o.To != os.Getpid() {
		return
	}
	o.Connections = account
	if len(account.Phases) > 0 {
		o.Durations = account.Phases
	}
	l.record(report.Completed, *o)
	if l.State() == Serving {
		l.publish()
	}
}
