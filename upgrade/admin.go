package upgrade

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// adminName is the name of the admin listeners.
const adminName = "admin"

const (
	adminHeaderTimeout = 5 * time.Second
	adminIdleTimeout   = time.Minute
	// adminLinger is how long the end of a generation waits for clients of the admin
	// listener to take their answer.
	adminLinger = time.Second
)

// admin is the listener that operators talk to. It has a set of its own: it takes no
// part in the takeover, for until the commit the old generation is the one to ask.
// Then its waiting connections move to the new one, and it ends.
type admin struct {
	p      *Process
	set    *handoff.Set
	server *handoff.Server
	talk   *control.Server
	lns    []*handoff.Listener

	leaveOnce sync.Once

	mu      sync.Mutex // guards what follows
	moving  bool       // questions can move to the next generation
	pending []chan<- control.Answer
}

// newAdmin makes the server; nothing is bound yet. nil without an address.
func newAdmin(p *Process) (*admin, error) {
	if len(p.adminAddrs) == 0 {
		return nil, nil
	}
	a := &admin{p: p, talk: control.NewServer(adminFace{p}, p.cfg.AdminToken)}
	a.set = handoff.NewSet(p.tableflip, nil, handoff.BindOptions{UnixMode: 0o600})
	var err error
	a.server, err = handoff.NewServer(&http.Server{
		Handler: a.talk, ConnContext: control.ConnContext,
		ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(errorLog{p.log}, "", 0),
	})
	return a, err
}

// listen binds, or inherits.
func (a *admin) listen() error {
	if a == nil {
		return nil
	}
	for _, addr := range a.p.adminAddrs {
		lns, err := a.set.Listen(addr)
		if err != nil {
			return err
		}
		a.lns = append(a.lns, lns...)
	}
	return nil
}

// accept begins to answer.
func (a *admin) accept() {
	if a == nil {
		return
	}
	a.server.Adopt()
	for _, ln := range a.lns {
		a.server.Start(ln, func(err error) { a.p.log.Error().Err(err).Msg("admin listener broke: the service goes on without it") })
	}
}

// pass tells those who wait for a request that the next generation carries it out,
// as soon as they can move there.
func (a *admin) pass(waiters []chan<- control.Answer) {
	if len(waiters) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.moving {
		a.pending = append(a.pending, waiters...)
		return
	}
	reply(waiters, control.Answer{Passed: true})
}

// handOver lets the new generation answer from here on: no connection is accepted
// here any more, questions that are its move to it, and who asked for this upgrade
// hears that it has succeeded.
func (a *admin) handOver(peer *handoff.Peer, asked []chan<- control.Answer, o Outcome) {
	if a == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.p.cfg.HandoffTimeout)
	defer cancel()
	var errs []error
	for _, ln := range a.lns {
		errs = append(errs, ln.Park(ctx))
	}
	if peer != nil {
		errs = append(errs, a.server.Move(ctx, peer.Sender()))
	}
	a.mu.Lock()
	a.moving = true
	reply(a.pending, control.Answer{Passed: true})
	a.pending = nil
	a.mu.Unlock()
	reply(asked, control.Answer{Outcome: &o})
	errs = append(errs, a.talk.Settle(ctx))
	if err := errors.Join(errs...); err != nil {
		a.p.log.Warn().Err(err).Msg("admin connections do not all move")
	}
	a.leave()
}

// leave ends it: streams end, and who has no answer yet gets none.
func (a *admin) leave() {
	if a == nil {
		return
	}
	a.leaveOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), adminLinger)
		defer cancel()
		for _, ln := range a.lns {
			_ = ln.Park(ctx)
		}
		_ = a.set.Close()
		a.server.CloseArrivals()
		a.server.Drain(ctx, handoff.DrainOptions{Timeout: adminLinger})
		a.server.Wait()
	})
}

func reply(waiters []chan<- control.Answer, answer control.Answer) {
	for _, w := range waiters {
		w <- answer // there is room, for one
	}
}

// Upgrade implements [control.Service]. It is not for the service's own use.
func (s adminFace) Upgrade(q control.Request) <-chan control.Answer {
	ch := make(chan control.Answer, 1)
	select {
	case s.events <- evRequest{request{at: q.At, by: "admin", force: q.Force, waiters: []chan<- control.Answer{ch}}}:
	case <-s.ended:
		ch <- control.Answer{Refused: "the service has stopped"}
	}
	return ch
}

// Status implements [control.Service].
func (s adminFace) Status() report.Status { return s.currentStatus() }

// Reports implements [control.Service].
func (s adminFace) Reports() []report.Outcome { return s.reports.List() }

// Events implements [control.Service].
func (s adminFace) Events() *control.Feed { return &s.feed }

// adminFace is a process as package control sees it.
type adminFace struct{ *Process }

// currentStatus is the last one that the loop has told, with what changes without it.
func (p *Process) currentStatus() Status {
	var st Status
	if s := p.status.Load(); s != nil {
		st = *s
	} else {
		st = Status{PID: os.Getpid(), Generation: p.generation, Build: p.cfg.Build, State: p.State().String(), Started: p.started}
	}
	if last, ok := p.reports.Last(); ok {
		st.Last = &last
	}
	n := p.connections()
	st.Connections = &n
	st.Predecessor = p.draining.Load()
	return st
}

// connections counts those of every server.
func (p *Process) connections() report.Connections {
	var n report.Connections
	for _, s := range p.services {
		c := s.server.Counts()
		n.Open += c.Conns
		n.Silent += c.Silent
		n.Hijacked += c.Hijacked
		n.Requests += c.Requests
	}
	return n
}

// tell gives an event to those who listen.
func (p *Process) tell(kind report.EventKind, o *Outcome) {
	if !p.feed.Listened() {
		return
	}
	p.feed.Publish(report.Event{Time: time.Now(), Kind: kind, Status: p.currentStatus(), Outcome: o})
}
