package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// Command is `holdfast supervise`, for kong.
type Command struct {
	PIDFile     string        `name:"pid-file" required:"" help:"The service's PID file: which process to follow." placeholder:"PATH"`
	StopTimeout time.Duration `help:"How long a stop may take, then what is left is killed. Longer than the service's --stop-delay, --drain-timeout and stop hooks together, shorter than what waits for this process." default:"45s"`
	LogFormat   string        `help:"json, console, or auto: console on a terminal." enum:"auto,json,console" default:"auto"`
	LogLevel    string        `help:"trace, debug, info, warn, error or disabled." default:"info"`
	Command     []string      `arg:"" passthrough:"" help:"The service and its arguments, behind --." placeholder:"COMMAND"`
}

// ExitError is the exit code of a service that has ended otherwise than with 0, or
// 126 or 127 with the reason why it could not be started.
type ExitError struct {
	Code int
	Err  error // nil: the service has said all there is to say
}

func (e *ExitError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("the service ended with exit code %d", e.Code)
}

func (e *ExitError) Unwrap() error { return e.Err }

// AfterApply takes the -- away that kong leaves before the command.
func (c *Command) AfterApply() error {
	if len(c.Command) > 0 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	if len(c.Command) == 0 {
		return errors.New("which command? Name it behind --: holdfast supervise --pid-file PATH -- COMMAND [ARG...]")
	}
	return nil
}

// Validate refuses what cannot be meant. kong calls it after parsing.
func (c *Command) Validate() error {
	if c.StopTimeout <= 0 {
		return fmt.Errorf("--stop-timeout %s: want a positive duration, for example 45s", c.StopTimeout)
	}
	if _, err := zerolog.ParseLevel(c.LogLevel); err != nil {
		return fmt.Errorf("--log-level %s: want trace, debug, info, warn, error or disabled", c.LogLevel)
	}
	return nil
}

// Run starts the command and returns when the service has ended: nil after exit code 0,
// else an [ExitError]. It reaps all children of the process, so nothing else in
// it can wait for one.
func (c *Command) Run() error {
	level, err := zerolog.ParseLevel(c.LogLevel)
	if err != nil {
		return err
	}
	var w io.Writer = os.Stderr
	if c.LogFormat == "console" || (c.LogFormat != "json" && isatty.IsTerminal(os.Stderr.Fd())) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly}
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	log := zerolog.New(w).Level(level).With().Timestamp().Int("pid", os.Getpid()).Str("role", "supervise").Logger()
	return run(log, c.PIDFile, c.StopTimeout, c.Command)
}
