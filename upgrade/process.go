package upgrade

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/systemd"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// Process is one generation of a service. Make it with [New], give it what it
// serves and what it does beside, then [Process.Run] it.
type Process struct {
	cfg        Config
	log        zerolog.Logger
	level      *logLevel
	generation int
	started    time.Time

	tableflip   *tableflip.Upgrader
	set         *handoff.Set
	parent      *handoff.Link // to the previous generation; nil without one that speaks our protocol
	parentMoves bool          // its protocol has the move of connections and state
	previous    *predecessor  // the same, once this generation runs
	pid         *pidFile      // nil without a PID file
	pidInherits bool          // its lock came from the previous generation
	manager     *systemd.Notifier
	wellAt      atomic.Int64 // when the last self-check was answered, in Unix nanoseconds

	states  *handoff.States  // what travels between the generations
	tickets *handoff.Tickets // the TLS servers' session-ticket keys; one of the states

	adminAddrs []handoff.Address
	admin      *admin // nil without an address
	feed       control.Feed
	status     atomic.Pointer[Status] // as the loop last told it
	reports    *report.Store
	parentPID  int                                // of the previous generation; 0: there is none
	parentSays handoff.Message                    // its hello, where there is a link
	draining   atomic.Pointer[report.Predecessor] // the same while it lives

	measures *measures

	relays  relays
	resumes map[string]handoff.Resume // by the name of the handler

	self   http.Handler   // the first server's: what probes ask
	window *health.Window // what this generation has answered; nil where nobody asks
	sight                 // of both generations

	judging sync.Mutex // held by the one who has the rules judge

	services  []service
	warmUps   []hook
	stops     []hook
	shared    crew
	exclusive crew

	state       atomic.Int32
	events      chan any
	ended       chan struct{} // closed when the loop has ended
	endOnce     sync.Once
	listeners   sync.WaitGroup
	stopSignals func()
	accepting   atomic.Bool // the accept loops run, the commit is under way

	// The owning loop's own.
	outcome *Outcome
}

// service is one HTTP server with the listeners it accepts from.
type service struct {
	server    *handoff.Server
	listeners []*handoff.Listener
}

const (
	generationEnv = "HOLDFAST_GENERATION"
	linkFile      = "holdfast-link"
	lockFile      = "holdfast-lock"
	// helloTimeout bounds the wait for a greeting that was sent before this process
	// was started.
	helloTimeout = time.Second
)

// New begins a generation: it takes what the previous one, or systemd, has passed
// to this process, and the lock of the PID file. It binds and serves nothing yet.
// From here on the signals are ours (see the package's documentation).
//
// An error names what to change: the PID file belongs to a live service, say. Only
// the first call in an operating system process can succeed.
func New(cfg Config) (*Process, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkFileLimit(); err != nil {
		return nil, err
	}
	p := &Process{
		cfg: cfg, started: time.Now(),
		events: make(chan any), ended: make(chan struct{}),
		states: &handoff.States{}, tickets: handoff.NewTickets(), resumes: map[string]handoff.Resume{},
	}
	if err := errors.Join(p.states.Register(p.tickets.State()), p.measure()); err != nil {
		return nil, err
	}
	if p.adminAddrs, err = cfg.AdminAddresses(); err != nil && len(cfg.Admin) > 0 {
		return nil, fmt.Errorf("upgrade: admin: %w", err)
	}
	adminErr := err
	if len(cfg.Rules) > 0 || len(p.adminAddrs) > 0 {
		p.window = health.NewWindow(health.Longest(cfg.Rules))
	}
	p.stopSignals = p.listenSignals()
	if err := p.inherit(); err != nil {
		p.close()
		return nil, err
	}
	if adminErr != nil {
		p.log.Warn().Err(adminErr).Msg("no admin listener: its default does not do here, set another one")
	}
	return p, nil
}

// inherit takes over what was passed to this process.
func (p *Process) inherit() error {
	CaptureStderr() // while tableflip keeps the descriptor open for us
	var err error
	if p.tableflip, err = tableflip.New(tableflip.Options{UpgradeTimeout: p.cfg.bound()}); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	p.generation = 1
	if p.tableflip.HasParent() {
		n, _ := strconv.Atoi(os.Getenv(generationEnv)) // a parent that does not count is generation 1
		p.generation = max(n, 1) + 1
		p.parentPID = os.Getppid() // whoever has started us
		p.draining.Store(&report.Predecessor{PID: p.parentPID, Generation: p.generation - 1})
	}
	if err := os.Setenv(generationEnv, strconv.Itoa(p.generation)); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	p.stampLog()

	p.manager = systemd.New()
	passed, err := systemd.Listeners()
	if err != nil {
		return fmt.Errorf("upgrade: sockets passed by systemd: %w", err)
	}
	p.openReports()
	if err := p.openPIDFile(); err != nil {
		return errors.Join(err, closeAll(passed))
	}
	if err := handoff.SelfTest(); err != nil {
		p.log.Warn().Err(err).Msg("connections do not move with this build: they are drained")
	}
	p.set = handoff.NewSet(p.tableflip, passed, handoff.BindOptions{
		UnixMode: p.cfg.UnixMode, ReusePort: p.cfg.ReusePort,
		KeepFiles: p.manager.Managed(), // they are stored: see store
	})
	p.keepStored(passed)
	return p.greetParent()
}

func (p *Process) openPIDFile() error {
	inherited, err := p.tableflip.File(lockFile)
	if err != nil {
		return fmt.Errorf("upgrade: inherit lock: %w", err)
	}
	if p.cfg.PIDFile == "" {
		if inherited != nil {
			return inherited.Close()
		}
		return nil
	}
	if p.pid, err = openPIDFile(p.cfg.PIDFile, inherited); err != nil {
		return err
	}
	p.pidInherits = p.pid.lock == inherited
	if s, err := ReadStatus(p.cfg.PIDFile); err == nil {
		p.outcome = s.Upgrade // the count goes on
	}
	if o := p.outcome; o != nil && o.Result == Running && !p.tableflip.HasParent() {
		o.Result, o.Reason = Failed, "the service died during the upgrade"
		if o.Phase == "" {
			o.Phase = report.Start
		}
		o.Ended = time.Now()
		p.measures.Upgraded(*o)
		p.record(report.Ended, *o)
	}
	if err := p.tableflip.AddFile(lockFile, p.pid.lock); err != nil {
		return fmt.Errorf("upgrade: pass on lock: %w", err)
	}
	return nil
}

// greetParent opens the link to the previous generation and says hello. Whatever
// is wrong with the link, the upgrade goes on without it.
func (p *Process) greetParent() error {
	f, err := p.tableflip.File(linkFile)
	if err != nil {
		return err
	}
	if f == nil {
		if p.tableflip.HasParent() {
			p.drainsOnly("it has passed no link", nil)
		}
		return nil
	}
	link, err := handoff.OpenLink(f)
	if err != nil {
		p.drainsOnly("its link does not work", err)
		return nil
	}
	m, err := link.Receive(helloTimeout)
	if err == nil && m.Type != handoff.Hello {
		err = fmt.Errorf("expected hello, got %s", m.Type)
	}
	// It must know our versions even if we do not know its own.
	err = errors.Join(err, link.Send(p.hello()))
	if err != nil || !m.Speaks() {
		p.drainsOnly(fmt.Sprintf("no common protocol: it speaks versions %v", m.Versions), err)
		_ = link.Close()
		return nil
	}
	p.parent, p.parentMoves, p.parentSays = link, m.Moves(), m
	if !p.parentMoves {
		p.drainsOnly(fmt.Sprintf("it speaks versions %v of the protocol, this one %v", m.Versions, handoff.ProtocolVersions), nil)
	}
	p.log.Info().Str("parent_build", m.Build).Int("parent_generation", m.Generation).Int("parent_pid", m.PID).Msg("hello from the previous generation")
	return nil
}

// drainsOnly says, once in an upgrade, why the connections of the previous
// generation do not come here.
func (p *Process) drainsOnly(reason string, err error) {
	p.log.Warn().Err(err).Str("reason", reason).Msg("connections do not move: the previous generation drains them")
}

func (p *Process) hello() handoff.Message {
	return handoff.Message{
		Type: handoff.Hello, Versions: handoff.ProtocolVersions,
		Build: p.cfg.Build, Generation: p.generation, PID: os.Getpid(), Bound: p.cfg.bound(), Takes: true,
	}
}

// Serve binds address, or takes the inherited socket, and has srv serve it. It
// may be called several times before Run, with one server or several; a server
// with a TLSConfig serves TLS; its clients resume their sessions over an upgrade,
// with exceptions: see [handoff.Server.UseTickets]. The process takes over srv:
// see [handoff.NewServer]. On an error nothing is left bound.
func (p *Process) Serve(srv *http.Server, addresses ...handoff.Address) error {
	if srv.Handler == nil {
		srv.Handler = http.DefaultServeMux
	}
	if p.self == nil {
		p.self = srv.Handler
	}
	if p.window != nil {
		srv.Handler = exceptOwn(p.window.Handler(srv.Handler), srv.Handler)
	}
	p.lendLog(srv)
	server, err := handoff.NewServer(srv)
	if slices.ContainsFunc(addresses, func(a handoff.Address) bool { return a.Name == adminName }) {
		err = errAdminName
	}
	if err != nil {
		p.abandon(err)
		return err
	}
	server.UseTickets(p.tickets)
	s := service{server: server}
	for _, a := range addresses {
		lns, err := p.set.Listen(a)
		if err != nil {
			p.abandon(err)
			return err
		}
		s.listeners = append(s.listeners, lns...)
	}
	p.services = append(p.services, s)
	return nil
}

// receiver takes the connections that another generation offers.
func (p *Process) receiver() *handoff.Receiver {
	servers := map[string]*handoff.Server{}
	for _, s := range p.services {
		for _, ln := range s.listeners {
			servers[ln.Name()] = s.server
		}
	}
	if p.admin == nil {
		return handoff.NewReceiver(servers, p.resumes)
	}
	servers[adminName] = p.admin.server
	resumes := maps.Clone(p.resumes)
	resumes[control.ResumeName] = p.admin.talk.Resume
	return handoff.NewReceiver(servers, resumes)
}

// Generation is this process's number in the chain, from 1.
func (p *Process) Generation() int { return p.generation }

// Started is when this generation began.
func (p *Process) Started() time.Time { return p.started }

// Build identifies this generation's binary.
func (p *Process) Build() string { return p.cfg.Build }

// abandon gives up before this generation has served, and tells the previous one
// why.
func (p *Process) abandon(err error) {
	p.confess(err)
	p.removeMade()
	p.close()
}

// confess tells the previous generation why this one gives up. If that cannot be
// sent, the exit status has to do.
func (p *Process) confess(err error) {
	if p.parent != nil && err != nil {
		p.lastWord(p.parent)
		_ = p.parent.Send(handoff.Message{Type: handoff.Failed, Reason: err.Error(), Phase: string(phaseOf(err))})
	}
}

// removeMade leaves no file behind that this process made.
func (p *Process) removeMade() {
	if p.set != nil {
		p.set.RemoveCreated()
	}
	if p.admin != nil {
		p.admin.set.RemoveCreated()
	}
	if p.pid != nil {
		p.pid.abandon(p.pidInherits)
		p.pid = nil
	}
}

// close ends what New has begun.
func (p *Process) close() {
	p.endOnce.Do(func() {
		close(p.ended)
		p.stopSignals()
		p.level.close()
		p.admin.leave()
		if p.set != nil {
			_ = p.set.Close()
			p.set.CloseUnclaimed()
		}
		if p.parent != nil {
			_ = p.parent.Close()
		}
		p.listeners.Wait()
	})
}

func closeAll(lns map[string][]net.Listener) error {
	var errs []error
	for _, ls := range lns {
		for _, ln := range ls {
			errs = append(errs, ln.Close())
		}
	}
	return errors.Join(errs...)
}
