package upgrade

import (
	"context"

	"github.com/holdfast-go/holdfast/handoff"
)

// WarmUp registers a function to run before this generation takes traffic: to
// fill a cache, to open a pool. They run one after the other, each with
// Config.WarmUpTimeout. An error ends the generation; in an upgrade the old one
// then goes on.
func (p *Process) WarmUp(name string, run func(context.Context) error) {
	p.warmUps = append(p.warmUps, hook{name, run})
}

// OnStop registers a function to run when this generation has drained, before it
// exits: to flush, to close a pool. They run in reverse order, each with
// Config.WarmUpTimeout; errors are logged.
func (p *Process) OnStop(name string, run func(context.Context) error) {
	p.stops = append(p.stops, hook{name, run})
}

// Go registers background work. It starts when this generation serves; its
// context ends when the drain or the stop begins, and the process waits for it, at
// most until the drain deadline. During a drain the old and the new generation
// may both be at it; see [Process.GoExclusive].
func (p *Process) Go(name string, run func(context.Context) error) {
	p.shared.hooks = append(p.shared.hooks, hook{name, run})
}

// GoExclusive registers background work that only one generation may do at a
// time: a scheduler, the consumer of a queue. It starts when this generation
// serves and the previous one has let go: its functions have returned, or it is
// dead. Otherwise it is like [Process.Go].
func (p *Process) GoExclusive(name string, run func(context.Context) error) {
	p.exclusive.hooks = append(p.exclusive.hooks, hook{name, run})
}

// Resume registers who goes on with the hijacked connections that the previous
// generation's handlers have declared movable under this name; see
// [handoff.Movable]. Call it before Run.
func (p *Process) Resume(name string, r handoff.Resume) { p.resumes[name] = r }
