package load

import (
	"context"
	"fmt"
	"time"
)

// pollEvery is for what has no event to wait for: files, other processes' answers.
const pollEvery = 3 * time.Millisecond

// poll calls check until it says true or fails, or returns ctx's cause.
func poll(ctx context.Context, check func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := check(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// withCause adds to the end of a wait why it had not ended well until then.
func withCause(err, last error) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, last)
}
