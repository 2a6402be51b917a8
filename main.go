// Command holdfast is a Gin service that replaces its own binary while it runs,
// and the tools around it. The packages beside this file are what an own service
// imports; this is the wiring.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes"
	"github.com/holdfast-go/holdfast/routes/demo"
	"github.com/holdfast-go/holdfast/systemd/supervise"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/control/cli"
	"github.com/holdfast-go/holdfast/upgrade/settings"
	"github.com/holdfast-go/holdfast/upgrade/unit"
)

// build is set by the linker: -ldflags "-X main.build=1.2.3".
var build string

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

type commands struct {
	Serve     serve             `cmd:"" help:"Serve, and replace the binary on SIGUSR2 without losing a request."`
	Check     check             `cmd:"" help:"Check settings, files and certificates as 'serve' would use them; bind nothing."`
	Upgrade   cli.Upgrade       `cmd:"" help:"Upgrade a running service and wait for the outcome."`
	Status    cli.Status        `cmd:"" help:"Show what a running service does."`
	Reports   cli.Reports       `cmd:"" help:"Show the last upgrades of a service."`
	Probe     cli.Probe         `cmd:"" help:"Ask a service once, as a client of this machine would: the health check of a container."`
	Level     cli.LogLevel      `cmd:"" name:"log-level" help:"Show what a running service logs, or change it for a while."`
	Verify    cli.Verify        `cmd:"" help:"Watch a running service for a while and judge it by its rules."`
	Unit      unit.Command      `cmd:"" help:"Print systemd units for a service with these settings."`
	Wait      wait              `cmd:"" help:"Wait for the outcome of the upgrade that was just requested by a signal."`
	Supervise supervise.Command `cmd:"" help:"Be the parent of a service where there is no systemd: in a container, under supervisord, in a terminal."`
	Demo      demonst           `cmd:"" name:"demo" help:"Watch it: a server under load, upgraded five times, and every request counted."`
	Version   version           `cmd:"" help:"Print the version."`
}

// terminal is looked at first of all: later, standard error may be a pipe.
var terminal = isatty.IsTerminal(os.Stderr.Fd())

func main() {
	upgrade.CaptureStderr()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run maps errors to exit codes; each is one line on stderr, with a quotation below
// where a new process has said why it failed.
func run(args []string, stdout, stderr io.Writer) int {
	if build == "" {
		build = upgrade.Revision()
	}
	var all commands
	parser, err := kong.New(&all,
		kong.Name("holdfast"),
		kong.Description("Holdfast replaces the binary under a running Gin service without one client noticing."),
		kong.DefaultEnvars("HOLDFAST"),
		kong.Writers(stdout, stderr),
		kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "holdfast:", err)
		return exitFailure
	}
	ctx, err := parser.Parse(args)
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "holdfast: %v (see holdfast --help)\n", err)
		return exitUsage
	}
	err = ctx.Run()
	ended := &supervise.ExitError{Code: exitFailure, Err: err}
	if err == nil {
		return 0
	}
	if errors.As(err, &ended); ended.Err != nil {
		_, _ = fmt.Fprintln(stderr, "holdfast:", ended.Err)
	}
	return ended.Code
}

type serve struct {
	settings.Server
	Config settings.File `help:"YAML file with settings; the keys are the names of these flags." placeholder:"FILE"`
}

// Run serves until this generation is done.
func (s *serve) Run() error {
	log, reopen, err := logger(&s.Server)
	if err != nil {
		return err
	}
	token, err := s.Token()
	if err != nil {
		return err
	}
	cfg := s.Server.Config()
	cfg.Log, cfg.ReopenLog, cfg.Build, cfg.AdminToken = &log, reopen, build, token
	cfg.Metrics = prometheus.NewRegistry()
	p, err := upgrade.New(cfg)
	if err != nil {
		return err
	}
	engine := routes.New(routes.Deps{
		Log: p.Log(), Build: p.Build(), Generation: p.Generation(), Started: p.Started(),
		Ready: p.Ready, Leaving: handoff.Leaving, Identify: s.Identify,
		Resume: p.Resume, State: p.Carry, Relay: p.Relay, Metrics: cfg.Metrics,
		RequestTimeout: s.RequestTimeout, BodyLimit: int64(s.BodyLimit), Token: token,
	})
	if err := p.ServeHandler(engine); err != nil {
		return err
	}
	return p.Run(context.Background())
}

// logger writes JSON, or for people on a terminal. The terminal alone decides, not
// systemd's $JOURNAL_STREAM or $INVOCATION_ID: a shell on a desktop inherits those, too.
// Lines have no journal priority (sd-daemon(3), "<3>") before them: with it, what
// `journalctl -o cat` gives would be no JSON any more, and a level is in there already.
//
// The level is zerolog's global one, so that it can be changed while the process runs.
func logger(s *settings.Server) (zerolog.Logger, func() error, error) {
	level, err := zerolog.ParseLevel(s.LogLevel)
	if err != nil {
		return zerolog.Nop(), nil, err
	}
	var w io.Writer = os.Stderr
	var reopen func() error
	if s.LogFile != "" {
		f, err := upgrade.OpenLogFile(s.LogFile)
		if err != nil {
			return zerolog.Nop(), nil, err
		}
		w, reopen = f, f.Reopen
	}
	if s.LogFormat == "console" || (s.LogFormat == "auto" && s.LogFile == "" && terminal) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: s.LogFile != "" || !terminal}
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	zerolog.SetGlobalLevel(level)
	return zerolog.New(w).With().Timestamp().Logger(), reopen, nil
}

type check struct {
	settings.Server
	Config settings.File `help:"YAML file with settings; the keys are the names of these flags." placeholder:"FILE"`
}

// Run is what a deploy executes on a new binary before it goes live.
func (c *check) Run(out io.Writer) error {
	if err := c.Check(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "holdfast %s: settings, files and certificates are in order\n", build)
	return err
}

type wait struct {
	PIDFile string        `name:"pid-file" required:"" help:"The service's PID file." placeholder:"PATH"`
	Timeout time.Duration `help:"Give up after this time; the upgrade goes on." default:"10m"`
	PID     int           `arg:"" optional:"" help:"The process that was asked ($MAINPID under systemd); default: the one in the PID file."`
}

// Run tells the truth after `kill -USR2`: exit 0 only when a new generation serves.
func (w *wait) Run(out io.Writer) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	ctx, cancel = context.WithTimeoutCause(ctx, w.Timeout, errors.New("no outcome within "+w.Timeout.String()))
	defer cancel()
	o, err := upgrade.Wait(ctx, w.PIDFile, w.PID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, o)
	return err
}

type demonst struct {
	Upgrades int `help:"How often to upgrade." default:"5"`
}

// Run shows what the project is about, in a minute.
func (d *demonst) Run(out io.Writer) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	return demo.Run(ctx, out, demo.Options{Upgrades: d.Upgrades})
}

type version struct{}

// Run prints one line.
func (version) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, "holdfast", build, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	return err
}
