package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// Status is the command that shows what a service does.
type Status struct {
	settings.Client
	JSON  bool `name:"json" help:"Print JSON."`
	Watch bool `help:"Go on with every change, through upgrades, until the service stops."`
}

// Run prints it once, or every change.
func (s *Status) Run(out io.Writer) error {
	c, err := s.Connect()
	if err != nil {
		return err
	}
	if s.Watch {
		return s.watch(c, out)
	}
	ctx, cancel := background(lookTimeout)
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	}
	return show(out, st)
}

func show(w io.Writer, s report.Status) error {
	_, err := fmt.Fprintf(w, "%s, generation %d, pid %d, build %s, since %s (%s)\n", s.State, s.Generation, s.PID, s.Build,
		s.Started.Local().Format(time.DateTime), time.Since(s.Started).Round(time.Second))
	if n := s.Connections; n != nil {
		_, _ = fmt.Fprintf(w, "connections: %d, with %d requests; %d wait for the client, %d hijacked\n", n.Open, n.Requests, n.Silent, n.Hijacked)
	}
	if s.Phase != "" {
		_, _ = fmt.Fprintf(w, "upgrade %d runs: phase %s, since %s\n", s.Upgrade.Number, s.Phase, time.Since(s.Upgrade.Began).Round(time.Millisecond))
	}
	if s.Queued {
		_, _ = fmt.Fprintln(w, "an upgrade is queued")
	}
	if p := s.Predecessor; p != nil {
		_, _ = fmt.Fprintf(w, "the previous generation drains: pid %d", p.PID)
		if p.Connections != nil {
			_, _ = fmt.Fprintf(w, ", %d connections left with %d requests", p.Connections.Open, p.Connections.Requests)
		}
		_, _ = fmt.Fprintln(w)
	}
	if s.Last != nil {
		_, _ = fmt.Fprintf(w, "last: %s\n", s.Last)
	}
	return err
}

// watch prints a line for each change.
func (s *Status) watch(c *control.Client, out io.Writer) error {
	ctx, cancel := background(0)
	defer cancel()
	enc, last, seen := json.NewEncoder(out), "", false
	err := c.Watch(ctx, func(e report.Event) error {
		seen = true
		if s.JSON {
			return enc.Encode(e)
		}
		text := line(e)
		if text == last {
			return nil
		}
		last = text
		_, err := fmt.Fprintf(out, "%s  %s\n", e.Time.Local().Format("15:04:05.000"), text)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil // by the reader's own will
	case seen && errors.Is(err, control.ErrNoService):
		return errors.New("the service has stopped")
	}
	return err
}

// line is one event in one line.
func line(e report.Event) string {
	s := e.Status
	text := fmt.Sprintf("generation %d, pid %d: %s", s.Generation, s.PID, s.State)
	if s.Phase != "" {
		text += ", phase " + string(s.Phase)
	}
	if s.Queued {
		text += ", an upgrade is queued"
	}
	if s.Predecessor != nil {
		text += fmt.Sprintf(", pid %d drains", s.Predecessor.PID)
	}
	switch {
	case e.Kind == report.Ended && e.Outcome != nil:
		text += "; " + e.Outcome.String()
	case e.Kind == report.Completed && e.Outcome != nil && e.Outcome.Connections != nil:
		text += "; connections " + connections(*e.Outcome)
	}
	return text
}
