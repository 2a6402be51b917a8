// Package settings is what an operator can set: the flags of the server, with
// their environment variables, configuration file and defaults.
//
// # Promise
//
// A setting that cannot be meant is refused in one line that names it, and its line in
// the file; [Server.Check] says beforehand what serving would stumble over, and binds and
// writes nothing. The README's table of settings is written from here.
//
// A flag wins over its environment variable (HOLDFAST_ and the flag's name in
// capitals, with _ for -), that over the configuration file, that over the default.
// Every generation reads all of them anew; the arguments and the environment are
// those of the first generation, so what is to change with an upgrade belongs into
// the file.
//
// # Limits
//
// An address that another process holds, and a certificate that has expired, are found
// out when serving begins. The file is YAML without nesting. Secrets are in files that
// settings name, never in a setting.
//
// # Example
//
//	var cli struct {
//		Serve struct {
//			settings.Server
//			Config settings.File
//		} `cmd:""`
//	}
//	kong.Parse(&cli, kong.DefaultEnvars("HOLDFAST"))
//	cfg := cli.Serve.Server.Config() // an upgrade.Config
//
// kong does the flags: one struct gives parsing, help, environment and the table
// of settings; a resolver adds the file. cobra with koanf would need the same list
// twice.
package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/units"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/health"
)

// Server holds the settings of `holdfast serve` and `holdfast check`.
type Server struct {
	Addr       []string      `help:"Listen here: [NAME=]HOST:PORT or [NAME=]unix:PATH. Repeatable; a comma separates several. A socket that systemd passes under NAME ('http' unless said otherwise, or 'https' with a certificate) is used instead." default:":8080" placeholder:"ADDR"`
	PIDFile    string        `name:"pid-file" help:"PID file, written by each generation when it serves, mode 0644; beside it stand a lock and the state that 'holdfast wait' reads." placeholder:"PATH"`
	Admin      []string      `help:"Admin listener: unix:PATH, repeatable, and one HOST:PORT of this machine; 'none' turns it off. Default: 'unix:PATH.admin' beside the PID file." placeholder:"ADDR"`
	StateDir   string        `help:"Directory of the reports on the last 100 upgrades (PATH.reports, JSON lines); under systemd a StateDirectory= outlives a stop. Default: that of the PID file." placeholder:"DIR"`
	ForceDrain time.Duration `help:"What 'holdfast upgrade --force' leaves of a predecessor's drain." default:"5s"`

	TLSCert string `name:"tls-cert" help:"Certificate chain, PEM, read anew by each generation. With --tls-key every listener serves TLS, HTTP/1.1 and HTTP/2." placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"Key of the certificate, PEM." placeholder:"FILE"`

	DrainTimeout   time.Duration `help:"For the drain of an old generation, and for a stop, to finish what has begun; then the rest is cut and logged." default:"30s"`
	UpgradeTimeout time.Duration `help:"Until a new generation is ready, less canary and probation; then it is killed and the old one goes on." default:"1m"`
	HandoffTimeout time.Duration `help:"For the connections to move to a new generation; the rest is drained by the old one." default:"10s"`
	Gate           []Probe       `help:"A probe that a generation must pass before it takes traffic: 'http GET /readyz status=200 within=1s', 'tcp HOST:PORT', 'exec PROGRAM ARG...'. Repeatable." sep:"\n" placeholder:"PROBE"`
	GateInARow     int           `name:"gate-in-a-row" help:"How often all probes must pass, one time after the other." default:"2"`
	GateTimeout    time.Duration `help:"Within what time they must." default:"15s"`
	Canary         time.Duration `help:"How long old and new both accept, and the rules judge the new one, before it takes over. 0: off." default:"0s"`
	CanaryShare    float64       `help:"The new one's part of the new connections in a canary, at most 0.5." default:"0.5"`
	Probation      time.Duration `help:"How long the rules judge the new one under all traffic, while the old one waits and can take everything back. 0: off." default:"0s"`
	Rule           []Rule        `help:"What a new generation must keep in both: 'success >= 99% over 10s min 50', 'p95 <= 1.5x old or 20ms', 'panics <= 0', 'memory <= 512MiB'. Repeatable." sep:"\n" placeholder:"RULE"`
	StrictRules    bool          `help:"Too little traffic for a verdict is a failure."`
	WarmUpTimeout  time.Duration `name:"warm-up-timeout" help:"For each warm-up and each stop hook." default:"30s"`
	StopLinger     time.Duration `help:"How long a stop keeps silent connections, to answer what is on its way." default:"1s"`
	StopDelay      time.Duration `help:"How long a service that is told to stop goes on serving, while /readyz answers 503 and load balancers take it out. Not for the drain of an old generation." default:"0s"`
	UnixMode       FileMode      `help:"Permission of a Unix socket's file, octal." default:"0660"`
	ReusePort      bool          `help:"Set SO_REUSEPORT on new TCP sockets. Upgrades do not need it, and a socket of one's own loses its queue when it closes."`

	WatchdogPath string `help:"What the service asks itself, through its own listeners and handlers, before it pings the watchdog of systemd; an answer below 500 will do." default:"/livez" placeholder:"PATH"`

	RequestTimeout time.Duration    `help:"For a request; then it is answered with 503. Streams, uploads and WebSockets are exempt. 0: no limit." default:"30s"`
	BodyLimit      units.Base2Bytes `help:"Largest request body; more is answered with 413. 0: no limit." default:"10MiB"`
	TokenFile      string           `help:"File with the bearer token for the routes that change something, and for changes on the admin listener over TCP." placeholder:"FILE"`
	Identify       bool             `help:"Send X-Pid and X-Generation with every answer."`

	LogFormat string `help:"'json', 'console', or 'auto': console on a terminal, otherwise JSON, so under systemd too." enum:"auto,json,console" default:"auto"`
	LogLevel  string `help:"trace, debug, info, warn, error or disabled; 'holdfast log-level' changes it while the service runs." default:"info"`
	LogFile   string `help:"Log to this file instead of standard error; it is opened anew on SIGUSR1, by both generations if there are two." placeholder:"PATH"`
}

// FileMode is a permission, written in octal.
type FileMode fs.FileMode

// UnmarshalText reads "0660".
func (m *FileMode) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is not a permission: want octal, for example 0660", b)
	}
	*m = FileMode(n)
	return nil
}

// String writes it as UnmarshalText reads it.
func (m FileMode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// Rule is a health rule in its text form; see [health.ParseRule].
type Rule struct{ health.Rule }

// UnmarshalText reads it.
func (r *Rule) UnmarshalText(b []byte) (err error) {
	r.Rule, err = health.ParseRule(string(b))
	return err
}

// Probe is a probe in its text form; see [health.ParseProbe].
type Probe struct{ *health.Probe }

// UnmarshalText reads it.
func (p *Probe) UnmarshalText(b []byte) (err error) {
	p.Probe, err = health.ParseProbe(string(b))
	return err
}

// Validate refuses what cannot be meant. kong calls it after parsing.
func (s *Server) Validate() error {
	for _, d := range []struct {
		flag  string
		value time.Duration
		zero  bool
	}{
		{"--drain-timeout", s.DrainTimeout, false},
		{"--upgrade-timeout", s.UpgradeTimeout, false},
		{"--handoff-timeout", s.HandoffTimeout, false},
		{"--warm-up-timeout", s.WarmUpTimeout, false},
		{"--force-drain", s.ForceDrain, false},
		{"--stop-linger", s.StopLinger, true},
		{"--stop-delay", s.StopDelay, true},
		{"--request-timeout", s.RequestTimeout, true},
		{"--gate-timeout", s.GateTimeout, false},
		{"--canary", s.Canary, true},
		{"--probation", s.Probation, true},
	} {
		if d.value < 0 || (d.value == 0 && !d.zero) {
			return fmt.Errorf("%s=%s: want a positive duration, for example 30s", d.flag, d.value)
		}
	}
	if s.BodyLimit < 0 {
		return fmt.Errorf("--body-limit=%s: want 0 or more", s.BodyLimit)
	}
	if s.CanaryShare <= 0 || s.CanaryShare > 0.5 {
		return fmt.Errorf("--canary-share=%g: want more than 0 and at most 0.5", s.CanaryShare)
	}
	if s.GateInARow < 1 {
		return fmt.Errorf("--gate-in-a-row=%d: want 1 or more", s.GateInARow)
	}
	if (s.Canary > 0 || s.Probation > 0) && len(s.Rule) == 0 {
		return errors.New("--canary and --probation need a --rule: without one only a crash would be noticed")
	}
	if (s.TLSCert == "") != (s.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key belong together: one is missing")
	}
	if _, err := zerolog.ParseLevel(s.LogLevel); err != nil {
		return fmt.Errorf("--log-level=%s: want trace, debug, info, warn, error or disabled", s.LogLevel)
	}
	if _, err := s.Config().Addresses(); err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	return checkAdmin(s.Admin)
}

// checkAdmin refuses an admin listener that cannot be meant.
func checkAdmin(admin []string) error {
	if _, err := (upgrade.Config{Admin: admin}).AdminAddresses(); err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	return nil
}

// Config is the part of the settings that the process needs.
func (s *Server) Config() upgrade.Config {
	linger := s.StopLinger
	if linger == 0 {
		linger = -1 // in Config, 0 is the default
	}
	c := upgrade.Config{
		Addrs: s.Addr, PIDFile: s.PIDFile, TLSCertFile: s.TLSCert, TLSKeyFile: s.TLSKey,
		DrainTimeout: s.DrainTimeout, UpgradeTimeout: s.UpgradeTimeout, WarmUpTimeout: s.WarmUpTimeout,
		HandoffTimeout: s.HandoffTimeout, ForceDrain: s.ForceDrain, Admin: s.Admin, StateDir: s.StateDir,
		StopLinger: linger, StopDelay: s.StopDelay, UnixMode: fs.FileMode(s.UnixMode), ReusePort: s.ReusePort,
		WatchdogPath: s.WatchdogPath,
		GateInARow:   s.GateInARow, GateTimeout: s.GateTimeout,
		Canary: s.Canary, CanaryShare: s.CanaryShare, Probation: s.Probation, StrictRules: s.StrictRules,
	}
	for _, p := range s.Gate {
		c.Gate = append(c.Gate, p.Probe)
	}
	for _, r := range s.Rule {
		c.Rules = append(c.Rules, r.Rule)
	}
	return c
}

// Check looks at everything outside the settings themselves that serving would
// need, as far as it can be seen without binding a socket or writing a file.
func (s *Server) Check() error {
	if s.TLSCert != "" {
		if _, err := upgrade.LoadTLS(s.TLSCert, s.TLSKey); err != nil {
			return err
		}
	}
	if _, err := s.Token(); err != nil {
		return err
	}
	for _, f := range []struct{ flag, path string }{{"--pid-file", s.PIDFile}, {"--log-file", s.LogFile}} {
		if f.path == "" {
			continue
		}
		dir := filepath.Dir(f.path)
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			return fmt.Errorf("%s %s: the directory %s does not exist", f.flag, f.path, dir)
		}
		if fi, err := os.Stat(f.path); err == nil && !fi.Mode().IsRegular() {
			return fmt.Errorf("%s %s: is not a regular file", f.flag, f.path)
		}
	}
	if s.StateDir != "" {
		if fi, err := os.Stat(s.StateDir); err != nil || !fi.IsDir() {
			return fmt.Errorf("--state-dir %s: is not a directory", s.StateDir)
		}
	}
	addresses, err := s.Config().Addresses()
	if err != nil {
		return err
	}
	admin, err := s.Config().AdminAddresses()
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	addresses = append(addresses, admin...)
	for _, a := range addresses {
		if err := a.Resolve(); err != nil {
			return err
		}
	}
	return nil
}

// Token reads the bearer token; empty without a file.
func (s *Server) Token() (string, error) { return readToken(s.TokenFile) }

func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("--token-file %s: want one line with the token", file)
	}
	return token, nil
}
