package upgrade

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// hook is a named function of the service.
type hook struct {
	name string
	run  func(context.Context) error
}

// call runs a hook with a deadline. A hook that does not heed its context is
// left behind when that has passed: the process ends soon after either way.
func (h hook) call(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.run(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		return nil
	case <-ctx.Done():
		select { // both at once: the hook's own word says more
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			return nil
		default:
		}
		return fmt.Errorf("%s: not done: %w", h.name, context.Cause(ctx))
	}
}

// crew is the background work of a service of one kind: shared or exclusive. Its
// functions share a context, which ends when the process lets go.
type crew struct {
	log   zerolog.Logger
	hooks []hook

	cancel context.CancelFunc
	done   chan struct{} // closed when all functions have returned; nil before start
}

// start runs the functions. It is called once.
func (c *crew) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.done = cancel, make(chan struct{})
	var wg sync.WaitGroup
	for _, h := range c.hooks {
		wg.Go(func() {
			if err := h.run(ctx); err != nil && ctx.Err() == nil {
				c.log.Error().Err(err).Str("task", h.name).Msg("background work ended early")
			}
		})
	}
	go func() { wg.Wait(); close(c.done) }()
}

// stop tells the functions to end and waits for them, at most until ctx ends.
func (c *crew) stop(ctx context.Context) error {
	if c.done == nil {
		return nil // never started
	}
	c.cancel()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("upgrade: background work does not end: %w", context.Cause(ctx))
	}
}
