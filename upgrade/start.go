package upgrade

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// start brings this generation from nothing to serving: state, warm-up, gate, accept,
// canary, takeover, probation, commit.
func (p *Process) start(ctx context.Context) error {
	// Taking over without a socket would end the service: the old generation would
	// drain and nobody would listen.
	if len(p.set.Listeners()) == 0 {
		return errors.New("upgrade: nothing to listen on: give Process.Serve an address")
	}
	if err := p.admin.listen(); err != nil {
		return err
	}
	if !p.tableflip.HasParent() {
		p.admin.accept() // otherwise the old generation answers until the commit
		p.set.DropKept()
		p.store() // from here on a crash refuses nobody
	}
	p.load(ctx)
	for _, h := range p.warmUps {
		began := time.Now()
		n := p.narrate("warming up, "+h.name, p.cfg.WarmUpTimeout, true)
		err := h.call(ctx, p.cfg.WarmUpTimeout)
		n.end()
		if err != nil {
			return &phaseError{report.WarmUp, fmt.Errorf("upgrade: warm-up: %w", err)}
		}
		p.log.Info().Str("hook", h.name).Dur("took_ms", time.Since(began)).Msg("warmed up")
	}
	if err := p.passGate(ctx); err != nil {
		return err
	}
	if names := p.set.CloseUnclaimed(); len(names) > 0 {
		p.log.Warn().Strs("names", names).Msg("sockets passed by systemd are not used: no listener has these names")
	}
	addrs := p.accept()
	p.accepting.Store(true)
	for _, step := range []func(context.Context) error{p.canary, p.receiveConnections, p.probation, p.commit} {
		if err := step(ctx); err != nil {
			p.giveBack(err)
			return err
		}
	}
	p.log.Info().Strs("addrs", addrs).Msg("serving")
	p.shared.start()
	return nil
}

// accept starts every accept loop.
func (p *Process) accept() (addrs []string) {
	for _, s := range p.services {
		s.server.Adopt()
		for _, ln := range s.listeners {
			addrs = append(addrs, ln.String())
			s.server.Start(ln, func(err error) { p.post(evAccept{err}) })
		}
	}
	return addrs
}

// commit makes this generation the serving one. With a link to its predecessor it
// becomes ready first: that one stays, and accepts, until it has read our
// confirmation. Without a link the predecessor may exit as soon as this one is
// ready, so everyone is told before.
func (p *Process) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.pid != nil { // before it is too late to call the upgrade off
		if err := p.pid.prepare(); err != nil {
			return &phaseError{report.Commit, err}
		}
	}
	steps := []func() error{p.ready, p.announce}
	if p.parent == nil {
		steps = []func() error{p.announce, p.ready}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return &phaseError{report.Commit, err}
		}
	}
	if p.tableflip.HasParent() {
		// Unless the old generation says otherwise.
		p.measures.oldDeadline.CompareAndSwap(0, time.Now().Add(p.cfg.DrainTimeout).UnixNano())
		p.admin.accept()
	}
	if p.parent != nil {
		if err := p.parent.Send(handoff.Message{Type: handoff.Committed}); err != nil {
			p.log.Warn().Err(err).Msg("commit not confirmed to the previous generation")
		}
	}
	return nil
}

// ready tells tableflip. A predecessor that is already dead is no reason to die
// with it: the sockets are here.
func (p *Process) ready() error {
	if err := p.tableflip.Ready(); err != nil {
		p.log.Warn().Err(err).Msg("previous generation is gone")
	}
	return nil
}

// announce makes the PID file and the service manager name this process.
func (p *Process) announce() error {
	// Whoever sees our PID file may rely on this process: what takes time comes before.
	restoreStderr(os.Getppid() != p.parentPID)
	if p.tableflip.HasParent() {
		p.logReports(p.reports.Reload()) // the old generation may have written until now
	}
	if o := p.outcome; o != nil && o.Result == Running && p.tableflip.HasParent() {
		o.Result, o.Phase, o.Ended = Succeeded, "", time.Now()
		o.To, o.ToGeneration, o.ToBuild = os.Getpid(), p.generation, p.cfg.Build
		p.record(report.Ended, *o)
	}
	if p.pid != nil {
		if err := p.pid.write(); err != nil {
			return err
		}
	}
	// Before the previous generation may exit: who finds that one gone looks here.
	p.writeStatus(Serving, false)
	if p.tableflip.HasParent() {
		p.store()
	}
	if err := p.manager.Ready(p.serving(), os.Getpid()); err != nil {
		p.log.Warn().Err(err).Msg("service manager does not confirm")
	}
	return nil
}
