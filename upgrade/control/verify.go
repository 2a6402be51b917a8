package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
)

// MaxVerify is the longest time that GET /verify judges the service.
const MaxVerify = time.Hour

// Why there is no verdict.
var (
	ErrNoRules = errors.New("the service has no rules to be judged by: set --rule")
	ErrJudging = errors.New("the service is being judged already: wait for that")
)

// errReplaced ends a judgement of a process that is not the one to judge any more.
var errReplaced = errors.New("the process that was judged makes way for another, or stops: ask again")

// verify judges the service for a while: 200 with the report if it passes, 409 if it
// does not.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	length, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil || length <= 0 || length > MaxVerify {
		fail(w, http.StatusBadRequest, "for", fmt.Sprintf("want for=DURATION, up to %s, for example for=30s", MaxVerify))
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-handoff.Leaving(r.Context()):
			cancel(errReplaced)
		case <-ctx.Done():
		}
	}()
	rep, err := s.service.Judge(ctx, length)
	cancel(nil)
	<-done
	switch {
	case errors.Is(err, ErrNoRules):
		fail(w, http.StatusUnprocessableEntity, "no_rules", err.Error())
	case errors.Is(err, ErrJudging):
		fail(w, http.StatusTooManyRequests, "judging", err.Error())
	case errors.Is(err, errReplaced):
		fail(w, http.StatusServiceUnavailable, "replaced", errReplaced.Error())
	case err != nil:
		fail(w, http.StatusServiceUnavailable, "no_verdict", err.Error())
	case !rep.Passed:
		answer(w, http.StatusConflict, rep)
	default:
		answer(w, http.StatusOK, rep)
	}
}

// Verify has the service judged by its rules for a time, and returns the report, which
// may be bad without an error.
func (c *Client) Verify(ctx context.Context, length time.Duration) (health.Report, error) {
	var r health.Report
	return r, c.get(ctx, "/verify?"+url.Values{"for": {length.String()}}.Encode(), &r)
}
