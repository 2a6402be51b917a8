package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
)

// Defaults of Config.
const (
	DefaultUpgradeTimeout = time.Minute
	DefaultDrainTimeout   = 30 * time.Second
	DefaultWarmUpTimeout  = 30 * time.Second
	DefaultStopLinger     = time.Second
	DefaultHandoffTimeout = 10 * time.Second
	DefaultCanaryShare    = 0.5
	DefaultForceDrain     = 5 * time.Second
)

// Config says how a service runs. Only an address is required, and that only by
// [Run].
type Config struct {
	// Addr and Addrs are what [Run] listens on: "[NAME=]HOST:PORT" or
	// "[NAME=]unix:PATH". A listener without a name is called "http", or "https" with
	// a certificate; further ones get a number. A socket that systemd passes under a
	// listener's name is used instead of binding the address.
	Addr  string
	Addrs []string

	// PIDFile is the path of the PID file. Beside it stand a lock (PIDFile.lock)
	// that keeps two services apart, and the state (PIDFile.state, JSON) that [Wait]
	// reads. Empty: none of them.
	PIDFile string

	// Admin is what the admin listener listens on, where an operator asks for the status
	// and for upgrades: "unix:PATH", several if need be, and at most one "HOST:PORT" of
	// this machine itself. Package [control] has the requests. Default: the Unix socket
	// PIDFile.admin, where there is a PID file; "none" turns it off. A service that has one
	// counts what it answers, for the status page there.
	Admin []string
	// AdminToken is the bearer token that changes over TCP need; empty refuses them.
	AdminToken string

	// StateDir is the directory of the reports on the last upgrades, for example one that
	// outlives the service's stop. Default: that of the PID file; the file is
	// PIDFile.reports. With neither, reports are in memory.
	StateDir string

	// TLSCertFile and TLSKeyFile make [Run] serve TLS with HTTP/2. PEM; each generation
	// reads them anew.
	TLSCertFile, TLSKeyFile string

	// UpgradeTimeout bounds the time from the start of the new process to its
	// readiness, less Canary and Probation; then it is killed. It includes the warm-up
	// and the gate. Default 1 minute.
	UpgradeTimeout time.Duration

	// DrainTimeout bounds the drain of the old generation, and the graceful stop;
	// then what still runs is cut and logged. Default 30 seconds. Connections on
	// which nothing arrives are closed spread over its second half.
	DrainTimeout time.Duration

	// ForceDrain bounds what is left of a drain when an upgrade is requested that shall
	// not wait for its end ("holdfast upgrade --force"). Default 5 seconds.
	ForceDrain time.Duration

	// HandoffTimeout bounds the takeover: the time in which the connections that wait
	// at a message boundary move to the new generation. Those that have not moved then
	// stay with the old generation, which drains them. A new generation that does not
	// acknowledge a batch within this time, or that does not commit within it when it
	// has everything, is killed, and the upgrade has failed. Default 10 seconds.
	HandoffTimeout time.Duration

	// Gate are probes that a new generation, and the first one, must pass before it
	// takes traffic: all of them, GateInARow times one after the other (default 2) within
	// GateTimeout (default 15 seconds). Default: none.
	Gate        []*health.Probe
	GateInARow  int
	GateTimeout time.Duration

	// Canary is a time in which both generations accept, from the same queue, and Rules
	// judge the new one by its own traffic. If a rule is broken it gives its connections
	// back and exits. Default 0: off.
	//
	// CanaryShare is about the part of the new connections that it gets: at most and by
	// default one half, for then both wait on the queue all the time, and the kernel
	// gives whom it likes (two thirds to the new one is usual). For less, the new one
	// accepts for that part of the time only.
	Canary      time.Duration
	CanaryShare float64

	// Probation is a time in which the new generation has all of the traffic, and the old
	// one waits with the listening sockets open. If a rule is broken, or the new one dies
	// or hangs, the old one accepts again and takes the connections back. Default 0: off.
	Probation time.Duration

	// Rules judge a new generation during Canary and Probation. See [health.ParseRule].
	// StrictRules makes a phase fail in which there was too little traffic for a verdict;
	// otherwise it passes with a note.
	Rules       []health.Rule
	StrictRules bool

	// WarmUpTimeout bounds each warm-up hook and each stop hook. Default 30 seconds.
	WarmUpTimeout time.Duration

	// StopLinger is how long a graceful stop keeps silent keep-alive connections, so
	// that a request that is on its way is still answered. Default 1 second; a
	// negative value closes them at once.
	StopLinger time.Duration

	// StopDelay is how long a service that is told to stop goes on serving all that
	// comes, while [Process.Ready] says "withdrawing", so that load balancers take it out
	// before its listeners close: longer than they need to notice. It comes before
	// DrainTimeout, and not at all when an old generation drains. A second signal skips
	// it. Default 0: the stop begins at once.
	StopDelay time.Duration

	// UnixMode is the permission of Unix sockets that are made anew, for example
	// 0660. Default: as the umask leaves it.
	UnixMode fs.FileMode

	// ReusePort sets SO_REUSEPORT on TCP sockets that are made anew. See
	// [handoff.BindOptions] for what that loses. Default false.
	ReusePort bool

	// WatchdogPath is what the process asks itself before it tells the service manager's
	// watchdog that it is well: GET on each of its listeners, over a connection of its own,
	// through the accept loop and the handler. An answer below 500 will do. The request is
	// not counted by the rules; [handoff.Own] tells it from others. Default: net/http is
	// asked (OPTIONS *), which leaves the handler out, for what it would make of a path is
	// not known. It matters only with WatchdogSec= in the unit.
	WatchdogPath string

	// Log receives the process's own log, with pid, build and generation on each line, and
	// is what handlers find in the context of a request (zerolog.Ctx). Without a Level of
	// its own its level can be changed at run time. Default: nothing is logged.
	Log *zerolog.Logger

	// ReopenLog is called on SIGUSR1, and when the other generation got one: during an
	// upgrade and a drain both write to the log, and only one is in the PID file. Default:
	// the signal is logged and ignored.
	ReopenLog func() error

	// Metrics is what GET /metrics on the admin listener exposes; this module adds its own
	// metrics, whose names begin with holdfast_, and those of the Go runtime and of the
	// process. The counters in it, the service's own too, go on in the next generation:
	// package [metrics] has how, and the limits. Default: a registry of its own.
	Metrics *prometheus.Registry

	// Build identifies the binary in logs and to the other generation. Default: the
	// version-control revision that the Go toolchain recorded.
	Build string
}

// withDefaults fills in what is not set and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"UpgradeTimeout", &c.UpgradeTimeout, DefaultUpgradeTimeout},
		{"DrainTimeout", &c.DrainTimeout, DefaultDrainTimeout},
		{"WarmUpTimeout", &c.WarmUpTimeout, DefaultWarmUpTimeout},
		{"HandoffTimeout", &c.HandoffTimeout, DefaultHandoffTimeout},
		{"GateTimeout", &c.GateTimeout, health.DefaultGateDeadline},
		{"ForceDrain", &c.ForceDrain, DefaultForceDrain},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("upgrade: %s is %s: want a positive duration", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if c.StopLinger == 0 {
		c.StopLinger = DefaultStopLinger
	}
	if c.Canary < 0 || c.Probation < 0 {
		return c, fmt.Errorf("upgrade: Canary is %s, Probation %s: want positive durations, or 0 for none", c.Canary, c.Probation)
	}
	if c.CanaryShare == 0 {
		c.CanaryShare = DefaultCanaryShare
	}
	if c.CanaryShare < 0 || c.CanaryShare > DefaultCanaryShare {
		return c, fmt.Errorf("upgrade: CanaryShare is %g: want more than 0 and at most %g", c.CanaryShare, DefaultCanaryShare)
	}
	if c.StopDelay < 0 {
		return c, fmt.Errorf("upgrade: StopDelay is %s: want a positive duration, or 0 for none", c.StopDelay)
	}
	c.StopLinger = max(0, min(c.StopLinger, c.DrainTimeout))
	if c.PIDFile != "" {
		abs, err := filepath.Abs(c.PIDFile)
		if err != nil {
			return c, fmt.Errorf("upgrade: PID file %s: %w", c.PIDFile, err)
		}
		c.PIDFile = abs
	}
	if c.StateDir != "" {
		abs, err := filepath.Abs(c.StateDir)
		if err != nil {
			return c, fmt.Errorf("upgrade: state directory %s: %w", c.StateDir, err)
		}
		c.StateDir = abs
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		return c, errors.New("upgrade: TLS needs a certificate and a key: one of the two is missing")
	}
	if c.WatchdogPath != "" && (c.WatchdogPath[0] != '/' || strings.ContainsFunc(c.WatchdogPath, func(r rune) bool { return r <= ' ' || r > '~' })) {
		return c, fmt.Errorf("upgrade: WatchdogPath is %q: want a path that begins with /, escaped as in a URL", c.WatchdogPath)
	}
	if c.Log == nil {
		nop := zerolog.Nop()
		c.Log = &nop
	}
	if c.Build == "" {
		c.Build = Revision()
	}
	return c, nil
}

// bound is the longest that a new generation may take until it is ready.
func (c Config) bound() time.Duration { return c.UpgradeTimeout + c.Canary + c.Probation }

// Addresses gives Addr and Addrs, parsed, each with a name of its own.
func (c Config) Addresses() ([]handoff.Address, error) {
	var all []string
	if c.Addr != "" {
		all = append(all, c.Addr)
	}
	all = append(all, c.Addrs...)
	name := "http"
	if c.TLSCertFile != "" {
		name = "https"
	}
	var as []handoff.Address
	used := map[string]bool{}
	for _, s := range all {
		a, err := handoff.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		if a.Name == "" {
			a.Name = name
			for n := 2; used[a.Name]; n++ {
				a.Name = fmt.Sprintf("%s-%d", name, n)
			}
		}
		switch {
		case used[a.Name]:
			return nil, fmt.Errorf("address %q: the name %s is used twice", s, a.Name)
		case a.Name == adminName:
			return nil, errAdminName
		}
		used[a.Name] = true
		as = append(as, a)
	}
	return as, nil
}

// ReportsFile is where the reports are kept; empty: in memory.
func (c Config) ReportsFile() string {
	switch {
	case c.StateDir == "" && c.PIDFile == "":
		return ""
	case c.StateDir == "":
		return c.PIDFile + ".reports"
	case c.PIDFile == "":
		return filepath.Join(c.StateDir, "holdfast.reports")
	}
	return filepath.Join(c.StateDir, filepath.Base(c.PIDFile)+".reports")
}

var errAdminName = errors.New("the name admin is that of the admin listener: choose another one for a listener of the service")

// AdminAddresses gives what Admin says, or its default, parsed. An error says what
// cannot be an admin address; a default that is too long for a socket's path is one
// that has to be replaced.
func (c Config) AdminAddresses() ([]handoff.Address, error) {
	if len(c.Admin) == 1 && c.Admin[0] == "none" {
		return nil, nil
	}
	list := c.Admin
	if len(list) == 0 {
		if c.PIDFile == "" {
			return nil, nil
		}
		abs, err := filepath.Abs(c.PIDFile)
		if err != nil {
			return nil, fmt.Errorf("PID file %s: %w", c.PIDFile, err)
		}
		list = []string{"unix:" + abs + ".admin"}
	}
	var as []handoff.Address
	tcp := 0
	for _, s := range list {
		if s == "none" {
			return nil, errors.New("none stands alone, or not at all")
		}
		a, err := handoff.ParseAddress(s)
		if err != nil {
			return nil, err
		}
		if a.Name != "" && a.Name != adminName {
			return nil, fmt.Errorf("address %q: an admin listener has no name of its own", s)
		}
		a.Name = adminName
		if a.Network == "tcp" {
			host, _, _ := net.SplitHostPort(a.Addr)
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				return nil, fmt.Errorf("address %q: the admin listener is for this machine only: want 127.0.0.1:PORT, [::1]:PORT or unix:PATH", s)
			}
			if tcp++; tcp > 1 {
				return nil, fmt.Errorf("address %q: one TCP address is enough", s)
			}
		}
		as = append(as, a)
	}
	return as, nil
}

// Revision is the version-control revision of the running binary as the Go
// toolchain recorded it, or the module's version, or "devel".
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	rev, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			rev = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	if rev != "" {
		return rev + modified
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}
