package supervise

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// words are what the generations of these tests are written in: a shell, which can
// be told to do anything wrong. $P is the PID file.
const words = `#!/bin/sh
name() { echo "$1" >"$P.new"; mv "$P.new" "$P"; }
until_there() { while [ ! -e "$1" ]; do sleep 0.01; done; }
# Wait for a signal, and do not leave the sleep behind.
idle() { while :; do sleep 60 & nap=$!; wait $nap; kill $nap; done; }
`

// parent is a supervise of the test's, with its command.
type parent struct {
	t       *testing.T
	cmd     *exec.Cmd
	dir     string // the command's working directory
	pidFile string
	log     string
}

// supervised starts a script under supervise; "$0" in it is the script itself.
func supervised(t *testing.T, role, script string, timeout time.Duration, more ...func(*exec.Cmd)) *parent {
	t.Helper()
	dir := t.TempDir()
	p := &parent{t: t, dir: dir, pidFile: filepath.Join(dir, "pid"), log: filepath.Join(dir, "log")}
	path := filepath.Join(dir, "script")
	require.NoError(t, os.WriteFile(path, []byte(words+script), 0o755))
	p.start(role, timeout, []string{path}, more...)
	return p
}

func (p *parent) start(role string, timeout time.Duration, args []string, more ...func(*exec.Cmd)) {
	p.t.Helper()
	self, err := os.Executable()
	require.NoError(p.t, err)
	log, err := os.Create(p.log)
	require.NoError(p.t, err)
	p.cmd = exec.Command(self, append([]string{p.pidFile, timeout.String()}, args...)...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	p.cmd.Env = append(os.Environ(), roleEnv+"="+role, "P="+p.pidFile)
	for _, f := range more {
		f(p.cmd)
	}
	require.NoError(p.t, p.cmd.Start())
	require.NoError(p.t, log.Close())
	p.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			_ = p.cmd.Wait()
		}
		if p.t.Failed() {
			p.t.Logf("its log:\n%s", p.text())
		}
	})
}

func (p *parent) text() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// says waits for a text in the log.
func (p *parent) says(text string) {
	p.t.Helper()
	p.until(func() bool { return strings.Contains(p.text(), text) }, "says "+text)
}

func (p *parent) until(cond func() bool, what string) {
	p.t.Helper()
	require.Eventually(p.t, cond, 20*time.Second, 5*time.Millisecond, what)
}

func (p *parent) signal(sigs ...syscall.Signal) {
	p.t.Helper()
	for _, sig := range sigs {
		require.NoError(p.t, p.cmd.Process.Signal(sig))
	}
}

// touch is how the test speaks to the script: until_there NAME.
func (p *parent) touch(name string) {
	p.t.Helper()
	require.NoError(p.t, os.WriteFile(filepath.Join(p.dir, name), nil, 0o600))
}

// number reads a pid that the script has written into a file.
func (p *parent) number(name string) int {
	p.t.Helper()
	var n int
	p.until(func() bool {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		if err == nil {
			n, err = strconv.Atoi(string(bytes.TrimSpace(b)))
		}
		return err == nil
	}, name+" is written")
	return n
}

// exits waits for the end, and wants this exit code.
func (p *parent) exits(code int) {
	p.t.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_ = p.cmd.Wait()
	require.Equal(p.t, code, p.cmd.ProcessState.ExitCode(), "%s\n%s", p.cmd.ProcessState, p.text())
}

// gone wants a process to have ended, and not to be a zombie either.
func (p *parent) gone(pid int) {
	p.t.Helper()
	require.NoFileExists(p.t, "/proc/"+strconv.Itoa(pid)+"/stat")
}
