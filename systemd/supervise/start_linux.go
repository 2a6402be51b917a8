package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Exit codes of a shell for what it cannot start (POSIX, Shell Command Language, 2.8.2).
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// run is [Command.Run], on Linux.
func run(log zerolog.Logger, path string, stopTimeout time.Duration, args []string) error {
	if err := checkProc(); err != nil {
		return err
	}
	// Orphans become ours, also where this is not PID 1: PR_SET_CHILD_SUBREAPER(2const).
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("supervise: become a subreaper: %w", err)
	}
	sigs := listen() // before there is anybody to send them on to
	defer sigs.stop()
	s := &supervisor{log: log, pidFile: openPIDFile(path), stopTimeout: stopTimeout, tty: terminal()}
	if err := s.start(args); err != nil {
		return err
	}
	s.loop(sigs)
	code := s.code()
	log.Info().Int("code", code).Msg("the service has ended")
	if code != 0 {
		return &ExitError{Code: code}
	}
	return nil
}

// start starts the first generation.
func (s *supervisor) start(args []string) error {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // what the operator wants
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		code := exitNotExecutable
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			code = exitNotFound
		}
		return &ExitError{Code: code, Err: fmt.Errorf("supervise: the command cannot be started: %w", err)}
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release() // it is reaped with all the others
	s.follow(pid, "started")
	return nil
}
