package supervise

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tty is a pseudoterminal: what is typed, and what is shown (pty(7)).
type tty struct {
	keyboard, slave *os.File
	mu              sync.Mutex // guards shown
	shown           bytes.Buffer
	done            chan struct{}
}

func openTTY(t *testing.T) *tty {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudoterminals here: " + err.Error())
	}
	x := &tty{keyboard: m, done: make(chan struct{})}
	rc, err := m.SyscallConn()
	require.NoError(t, err)
	var n int
	require.NoError(t, rc.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		if err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}))
	require.NoError(t, err)
	x.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	go x.read()
	t.Cleanup(func() { _ = x.slave.Close(); x.hangUp() })
	return x
}

func (x *tty) read() {
	defer close(x.done)
	b := make([]byte, 4096)
	for {
		n, err := x.keyboard.Read(b)
		x.mu.Lock()
		x.shown.Write(b[:n])
		x.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (x *tty) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

func (x *tty) types(t *testing.T, s string) {
	t.Helper()
	_, err := x.keyboard.WriteString(s)
	require.NoError(t, err)
}

// hangUp closes the window.
func (x *tty) hangUp() {
	_ = x.keyboard.Close()
	<-x.done
}

// in gives a command the terminal, as its foreground process.
func (x *tty) in(c *exec.Cmd) {
	c.Stdin, c.Stdout, c.Stderr = x.slave, x.slave, x.slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
}

const (
	ctrlC         = "\x03"
	ctrlZ         = "\x1a"
	ctrlBackslash = "\x1c"
)

func TestTerminal(t *testing.T) {
	t.Run("Ctrl-C is one signal", func(t *testing.T) {
		x := openTTY(t)
		p := supervised(t, "yes", `trap 'trap "exit 7" INT; echo once' INT; name $$; echo ready; idle`, time.Minute, x.in)
		p.until(func() bool { return strings.Contains(x.screen(), "ready") }, "ready")
		x.types(t, ctrlC)
		p.until(func() bool { return strings.Contains(x.screen(), "once") }, "once")
		service := p.number("pid")
		session, err := unix.Getsid(service)
		require.NoError(t, err)
		require.Equal(t, service, session, "the terminal does not reach it")
		time.Sleep(3 * lookEvery) // for what must not come
		_, lives := parentOf(service)
		require.True(t, lives, "a second signal would have ended it")
		x.types(t, ctrlC)
		p.exits(7)
	})
	t.Run("Ctrl-backslash is the service's", func(t *testing.T) {
		x := openTTY(t)
		p := supervised(t, "yes", `trap 'exit 8' QUIT; name $$; idle`, time.Minute, x.in)
		p.number("pid")
		x.types(t, ctrlBackslash)
		p.exits(8)
	})
	t.Run("Ctrl-Z stops the parent alone", func(t *testing.T) {
		bash, err := exec.LookPath("bash")
		if err != nil {
			t.Skip("bash is not installed")
		}
		x := openTTY(t)
		// A session leader's group is an orphan, and is not stopped by the terminal
		// (setpgid(2)): a shell is the session's leader, as in life.
		p := supervised(t, "yes", `
trap 'echo alive >alive' USR1; trap 'exit 9' TERM
name $$; idle`, time.Minute, func(c *exec.Cmd) {
			x.in(c)
			c.Args = append([]string{"bash", "-mc", `"$@"; echo "stopped: $?"; read -r go; fg; exit $?`, "bash", c.Path}, c.Args[1:]...)
			c.Path = bash
		})
		service := p.number("pid")
		x.types(t, ctrlZ)
		p.until(func() bool { return strings.Contains(x.screen(), "stopped: 148") }, "the shell has its terminal back")
		require.NoError(t, syscall.Kill(service, syscall.SIGUSR1))
		p.until(func() bool { _, err := os.Stat(p.dir + "/alive"); return err == nil }, "the service goes on")
		ppid, ok := parentOf(service)
		require.True(t, ok)
		require.NoError(t, syscall.Kill(ppid, syscall.SIGTERM)) // waits until it runs again
		x.types(t, "go\n")
		p.exits(9)
	})
	t.Run("a closed window is a stop", func(t *testing.T) {
		x := openTTY(t)
		p := supervised(t, "yes", `trap 'echo HUP >hup' HUP; trap 'exit 5' TERM; name $$; idle`, time.Minute, x.in)
		p.number("pid")
		x.hangUp()
		p.exits(5)
		require.NoFileExists(t, p.dir+"/hup")
	})
	t.Run("SIGHUP from elsewhere is none", func(t *testing.T) {
		x := openTTY(t)
		p := supervised(t, "yes", `trap 'exit 6' HUP; name $$; idle`, time.Minute, x.in)
		p.number("pid")
		p.signal(syscall.SIGHUP)
		p.exits(6)
	})
	t.Run("reading and writing do not stop the service", func(t *testing.T) {
		x := openTTY(t)
		p := supervised(t, "yes", `name $$; echo ready; read -r line; echo "got $line"; exit 4`, time.Minute, x.in)
		p.until(func() bool { return strings.Contains(x.screen(), "ready") }, "ready")
		rc, err := x.slave.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, rc.Control(func(fd uintptr) { // stty tostop
			var a *unix.Termios
			if a, err = unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
				a.Lflag |= unix.TOSTOP
				err = unix.IoctlSetTermios(int(fd), unix.TCSETS, a)
			}
		}))
		require.NoError(t, err)
		x.types(t, "hello\n")
		p.exits(4)
		require.Contains(t, x.screen(), "got hello")
	})
}
