package cli

import (
	"crypto/tls"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// Probe is the command that asks a service once: a health check where there is no
// shell and no curl.
type Probe struct {
	settings.Front
	Probe settings.Probe `arg:"" optional:"" help:"What to ask, in the words of --gate; http without at= asks the service. Default: \"${default}\"." default:"http GET /readyz timeout=2s"`
}

// Run asks, prints one line, and fails if the answer is bad or does not come.
func (p *Probe) Run(out io.Writer) error {
	probe := p.Probe.Probe
	if h, ok := probe.Check.(*health.HTTP); ok && h.At == "" {
		a, overTLS, err := p.Address()
		if err != nil {
			return err
		}
		h.At = a.String()
		if overTLS {
			// The certificate is made out to the name that the world knows, not to this
			// machine's inside; and what listens here is whom the caller has started.
			h.TLS = &tls.Config{InsecureSkipVerify: true}
		}
	}
	ctx, cancel := background(0) // the probe has its own bound
	defer cancel()
	began := time.Now()
	if err := probe.Run(ctx, nil); err != nil {
		return fmt.Errorf("%s: %w", probe, err)
	}
	_, err := fmt.Fprintf(out, "%s: passed after %s\n", probe, time.Since(began).Round(time.Microsecond))
	return err
}
