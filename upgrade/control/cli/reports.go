package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/report"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// Reports is the command that shows the last upgrades.
type Reports struct {
	settings.Client
	JSON  bool `name:"json" help:"Print JSON lines."`
	Count int  `name:"count" short:"n" help:"How many." default:"10"`
}

// Run prints them, oldest first.
func (r *Reports) Run(out io.Writer) error {
	list, err := reports(&r.Client)
	if err != nil {
		return err
	}
	list = list[max(0, len(list)-max(0, r.Count)):]
	if r.JSON {
		enc := json.NewEncoder(out)
		for _, o := range list {
			if err := enc.Encode(o); err != nil {
				return err
			}
		}
		return nil
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no upgrades yet")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NUMBER\tTIME\tRESULT\tPIDS\tBUILD\tTOOK\tCONNECTIONS")
	for _, o := range list {
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Number, o.Began.Local().Format(time.DateTime), result(o), arrow(number(o.From), number(o.To)),
			arrow(o.FromBuild, o.ToBuild), took(o), connections(o))
	}
	return w.Flush()
}

func result(o report.Outcome) string {
	if o.Result == report.Failed {
		reason, _, _ := strings.Cut(o.Reason, "\n")
		return fmt.Sprintf("failed in %s: %s", o.Phase, reason)
	}
	return string(o.Result)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func arrow(from, to string) string {
	if to == "" || to == from {
		return from
	}
	return from + " > " + to
}

func took(o report.Outcome) string {
	if o.Ended.IsZero() {
		return "-"
	}
	return o.Ended.Sub(o.Began).Round(time.Millisecond).String()
}

func connections(o report.Outcome) string {
	n := o.Connections
	if n == nil {
		return "-"
	}
	return fmt.Sprintf("%d: %d moved, %d closed, %d silent, %d dropped", n.Open, n.Moved, n.Closed, n.Retired, n.Dropped)
}
