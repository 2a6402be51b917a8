package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// Verify is the command that has a running service judged by its rules: what a
// deploy does after the release went live.
type Verify struct {
	settings.Client
	For  time.Duration `help:"How long to watch; a rule that is broken ends it early." default:"30s"`
	JSON bool          `name:"json" help:"Print the report as JSON."`
}

// verifyGrace is how much longer than the judgement its answer may take.
const verifyGrace = 10 * time.Second

// Run watches, and fails if a rule is broken.
func (v *Verify) Run(out io.Writer) error {
	if v.For <= 0 || v.For > control.MaxVerify {
		return fmt.Errorf("--for %s: want more than 0 and at most %s", v.For, control.MaxVerify)
	}
	c, err := v.Connect()
	if err != nil {
		return err
	}
	ctx, cancel := background(v.For + verifyGrace)
	defer cancel()
	r, err := c.Verify(ctx, v.For)
	if err != nil {
		return fmt.Errorf("no verdict: %w", err)
	}
	if v.JSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	} else {
		for _, rule := range r.Rules {
			if _, err := fmt.Fprintf(out, "%-8s %s: %s\n", rule.Verdict, rule.Rule, rule.Reason); err != nil {
				return err
			}
		}
	}
	if !r.Passed {
		return errors.New("the service is not well: " + r.Reason)
	}
	if !v.JSON {
		_, err = fmt.Fprintf(out, "the service is well: %s, watched for %s\n", r.Reason, r.Took.Round(time.Millisecond))
	}
	return err
}
