package upgrade

import (
	"context"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/health"
)

// Judge implements [control.Service]: it applies the rules of canary and probation to
// the process as it serves. It is compared with the last figures that the previous
// generation gave, if there are any.
func (s adminFace) Judge(ctx context.Context, length time.Duration) (health.Report, error) {
	p := s.Process
	if len(p.cfg.Rules) == 0 {
		return health.Report{}, control.ErrNoRules
	}
	// A rule's probe is for one judge at a time.
	if !p.judging.TryLock() {
		return health.Report{}, control.ErrJudging
	}
	defer p.judging.Unlock()
	j := health.Judge{Rules: p.cfg.Rules, Phase: length, Strict: p.cfg.StrictRules, Self: p.self, Own: p.figures}
	if p.previous != nil {
		j.Old = p.previous.figuresOver
	}
	return j.Run(ctx)
}
