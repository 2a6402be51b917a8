package upgrade

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
)

// The self-check behind the watchdog's ping. What is asked is whether this generation
// does what it is there for: each accept loop takes a connection, each server answers a
// request on it ([handoff.Server.Ask]), and the owning loop takes the result and pings.
// What hangs in any of them ends the pings, and the service manager restarts the
// service. Only the generation that serves pings; one that starts, or drains, does not.
//
// Nothing in it waits behind clients, so a long queue or a busy machine is no reason to
// fail. A check may take two thirds of the watchdog's time.

// selfCheck asks again and again until ctx ends.
func (p *Process) selfCheck(ctx context.Context, timeout time.Duration) {
	tick := time.NewTicker(timeout / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if p.checkOnce(ctx, timeout) {
			p.wellAt.Store(time.Now().UnixNano())
			p.post(evWell{})
		}
	}
}

// checkOnce asks every listener, and tells whether all have answered.
func (p *Process) checkOnce(ctx context.Context, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	late := time.AfterFunc(timeout/3, func() {
		p.log.Error().Dur("timeout_ms", timeout).Msg("self-check not answered yet: the service manager restarts a service that stays so")
	})
	defer late.Stop()
	var asked sync.WaitGroup
	errs := make(chan error, len(p.set.Listeners()))
	for _, s := range p.services {
		for _, ln := range s.listeners {
			asked.Go(func() { errs <- s.server.Ask(ctx, ln, p.cfg.WatchdogPath) })
		}
	}
	asked.Wait()
	close(errs)
	well := true
	for err := range errs {
		// A listener is closed by the end of the service, which has its own bounds.
		if err != nil && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
			p.log.Error().Err(err).Msg("self-check failed: the service manager is not told that all is well")
			well = false
		}
	}
	return well && ctx.Err() == nil
}

// unwell tells whether the last good self-check is too long ago to ask the manager for
// more time. Without a watchdog nothing is checked.
func (l *loop) unwell() bool {
	timeout, _ := l.manager.WatchdogTimeout()
	return l.endSelfCheck != nil && time.Since(time.Unix(0, l.wellAt.Load())) > timeout
}

// beginSelfCheck starts it, once this generation serves, where a watchdog wants it.
func (l *loop) beginSelfCheck() {
	timeout, ok := l.manager.WatchdogTimeout()
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.endSelfCheck = cancel
	l.wellAt.Store(time.Now().UnixNano())
	l.listeners.Go(func() { l.selfCheck(ctx, timeout) })
	l.listeners.Go(func() { <-l.ended; cancel() })
}

// onWell pings.
func (l *loop) onWell() {
	switch l.State() {
	case Serving, Upgrading, Withdrawing, Stopping:
		l.manager.Ping()
	}
}

// exceptOwn has plain answer the requests of the self-check, and counted all others.
func exceptOwn(counted, plain http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handoff.Own(r.Context()) {
			plain.ServeHTTP(w, r)
			return
		}
		counted.ServeHTTP(w, r)
	})
}
