package systemd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// DefaultTimeout is what [New] sets Notifier.Timeout to. systemd-notify(1) waits as
// long for its barrier.
const DefaultTimeout = 5 * time.Second

// mentionTimeout bounds a message that comes again every few seconds: who sends it has
// more to do.
const mentionTimeout = 100 * time.Millisecond

// maxStatus bounds a status text, in bytes. The manager drops a message of more than
// 4096 (NOTIFY_BUFFER_MAX); the fields beside a status need less than 200.
const maxStatus = 2048

// Notifier tells the service manager what this process does: sd_notify(3). Make it
// with [New]; the zero Notifier has no manager and does nothing. Its methods may be
// called from any goroutine.
//
// [Notifier.Ready], [Notifier.Barrier], [Notifier.Store] and [Notifier.Forget] return an
// error. The others report a progress that the next message will report again, and a
// service goes on without it.
type Notifier struct {
	// Timeout bounds each message and each barrier.
	Timeout time.Duration

	socket   string // empty without a manager
	watchdog time.Duration
}

// New reads the environment, and removes from it what must not reach the next
// generation ($WATCHDOG_PID). Call it once in a process, early.
func New() *Notifier {
	return &Notifier{
		Timeout:  DefaultTimeout,
		socket:   os.Getenv(envNotifySocket),
		watchdog: takeWatchdog(),
	}
}

// Ready says that the process pid serves now, after a start or an upgrade, and
// returns when the manager has read it. From then on the manager follows pid.
// An error says that this is not certain. It is a ping, too: where upgrades follow
// each other fast, no generation is there when its first one is due.
func (n *Notifier) Ready(status string, pid int) error {
	ping := ""
	if n.watchdog > 0 {
		ping = daemon.SdNotifyWatchdog
	}
	if err := n.send("MAINPID="+strconv.Itoa(pid), daemon.SdNotifyReady, ping, statusField(status)); err != nil {
		return err
	}
	return n.Barrier()
}

// Reloading says that an upgrade begins, and that it may take this long until
// Ready or Resumed.
func (n *Notifier) Reloading(status string, timeout time.Duration) {
	_ = n.send(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"),
		extendField(timeout), statusField(status))
}

// Resumed says that the upgrade failed and the process pid goes on. The MAINPID= is
// for the case that the new one came as far as to announce itself.
func (n *Notifier) Resumed(status string, pid int) {
	_ = n.send("MAINPID="+strconv.Itoa(pid), daemon.SdNotifyReady, statusField(status))
}

// Stopping says that the service stops for good. An old generation that drains must
// not say it.
func (n *Notifier) Stopping(status string) {
	_ = n.send(daemon.SdNotifyStopping, statusField(status))
}

// Status sets the line that `systemctl status` shows. Control characters become
// spaces, and what is longer than 2048 bytes is cut.
func (n *Notifier) Status(status string) {
	_ = n.mention(statusField(status))
}

// Extend says that a start, a reload or a stop needs at least d more, from now, and
// why; an empty status leaves the line as it is. It moves the watchdog's deadline as
// well (service_extend_timeout in systemd's src/core/service.c), so a long time is better
// said in short pieces, each of them while it is true.
func (n *Notifier) Extend(d time.Duration, status string) {
	if status != "" {
		status = statusField(status)
	}
	_ = n.mention(extendField(d), status)
}

// Managed tells whether there is a manager to speak to.
func (n *Notifier) Managed() bool { return n.socket != "" }

// Barrier returns when the manager has read everything that was sent before:
// sd_notify_barrier(3). It passes the write end of a pipe and waits until the manager
// closes it, at most Timeout.
func (n *Notifier) Barrier() error {
	if n.socket == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("systemd: barrier: %w", err)
	}
	defer func() { _ = r.Close() }()
	// BARRIER=1 must be alone in its message.
	err = n.sendFile(w, "BARRIER=1")
	_ = w.Close() // the manager's is the last one
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(n.Timeout)); err != nil {
		return fmt.Errorf("systemd: barrier: %w", err)
	}
	switch _, err := r.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("systemd: the service manager has not read its notifications within %s: %w", n.Timeout, err)
	default:
		return fmt.Errorf("systemd: barrier: %w", err)
	}
}

// send sends one message of these fields, without the empty ones.
func (n *Notifier) send(fields ...string) error { return n.sendFile(nil, fields...) }

// mention sends what will soon be said again, and does not wait long for a manager that
// does not read.
func (n *Notifier) mention(fields ...string) error {
	brief := *n
	brief.Timeout = min(n.Timeout, mentionTimeout)
	return brief.send(fields...)
}

// sendFile sends one message, and file with it if it is not nil; the caller keeps
// the file. It does what daemon.SdNotify does, which has neither a deadline nor files:
// while the manager hangs, each send to its full queue would block for good.
func (n *Notifier) sendFile(file syscall.Conn, fields ...string) error {
	if n.socket == "" {
		return nil
	}
	if err := n.transmit(file, []byte(joinFields(fields))); err != nil {
		return fmt.Errorf("systemd: notify: %w", err)
	}
	return nil
}

func (n *Notifier) transmit(file syscall.Conn, message []byte) error {
	// A first '@' stands for the abstract namespace, here as there.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteDeadline(time.Now().Add(n.Timeout)); err != nil {
		return err
	}
	if file == nil {
		return sendMessage(c, message, nil)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	// Inside of Control nobody closes the descriptor, which the message names by its
	// number.
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = sendMessage(c, message, unix.UnixRights(int(fd))) }); err != nil {
		return err
	}
	return sent
}

// sendMessage does not use WriteMsgUnix: that refuses a datagram socket that is
// connected.
func sendMessage(c *net.UnixConn, message, rights []byte) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		for {
			sent = unix.Sendmsg(int(fd), message, rights, nil, 0)
			if !errors.Is(sent, unix.EINTR) {
				return !errors.Is(sent, unix.EAGAIN)
			}
		}
	})
	if err != nil {
		return err
	}
	return sent
}

func joinFields(fields []string) string {
	kept := make([]string, 0, len(fields))
	for _, f := range fields {
		if f != "" {
			kept = append(kept, f)
		}
	}
	return strings.Join(kept, "\n")
}

func extendField(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(max(0, d.Microseconds()), 10)
}

// statusField makes text one field: a newline would begin another one, and the
// manager drops what is not UTF-8 or is too long.
func statusField(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus-len("…")], "") + "…"
	}
	return "STATUS=" + text
}
