package health

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxTail is how much of the end of a command's output is kept.
const maxTail = 4096

// Exec is a check that runs a command; exit status 0 is a success. There is no
// shell. The last line of its output, either stream, is the reason of a failure.
//
// It runs in a process group of its own, which is killed when the time is up, and
// when something that it left in the background keeps its output open.
type Exec struct {
	Argv []string // the program, a path or a name to look up in PATH, and its arguments
}

// String gives the text form.
func (e *Exec) String() string {
	parts := []string{"exec"}
	for _, a := range e.Argv {
		q := quote(a)
		if q == a && execOption(a) {
			q = `"` + strings.ReplaceAll(a, `\`, `\\`) + `"` // an argument, although it looks like a limit
		}
		parts = append(parts, q)
	}
	return strings.Join(parts, " ")
}

func (*Exec) obeys() bool { return true }

func (e *Exec) check(ctx context.Context, _ http.Handler) error {
	if len(e.Argv) == 0 {
		return errors.New("there is no command to run")
	}
	out := &tail{}
	cmd := exec.CommandContext(ctx, e.Argv[0], e.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		// It has ended well; the group exists, since a member holds the pipe.
		_ = kill()
		err = nil
	}
	if err == nil {
		return nil
	}
	if line := out.lastLine(); line != "" {
		return fmt.Errorf("%w: %s", err, line)
	}
	return err
}

// tail keeps the end of what is written to it. os/exec writes from one goroutine
// when both streams are the same writer.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) lastLine() string {
	s := strings.TrimSpace(strings.ToValidUTF8(string(t.b), ""))
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}
