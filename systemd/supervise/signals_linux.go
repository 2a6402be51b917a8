package supervise

import (
	"os"
	"os/signal"
	"syscall"
)

// signals is what reaches this process. Handlers, and not SIG_IGN, which the command
// would inherit (execve(2)). A mask that was inherited is no matter: the Go runtime
// unblocks what is asked for, and puts its own handler in the place of an ignored
// SIGCHLD, without which exit codes would be lost (wait(2)).
type signals struct {
	asked   chan os.Signal
	child   chan os.Signal // SIGCHLD; one stands for many
	nothing chan os.Signal // what is ignored
}

func listen() signals {
	s := signals{make(chan os.Signal, 64), make(chan os.Signal, 1), make(chan os.Signal, 1)}
	asked := []os.Signal{syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		// nohup(1), and a shell without job control for what it starts by &: whoever
		// had it ignored meant it.
		if !signal.Ignored(sig) {
			asked = append(asked, sig)
		}
	}
	signal.Notify(s.asked, asked...)
	signal.Notify(s.child, syscall.SIGCHLD)
	signal.Notify(s.nothing, syscall.SIGPIPE)
	return s
}

func (s signals) stop() {
	signal.Stop(s.asked)
	signal.Stop(s.child)
	signal.Stop(s.nothing)
}

// terminal tells whether this process has a controlling terminal. When that is closed,
// all processes of its session lose it before SIGHUP comes (tty_ioctl(4), setsid(2)).
func terminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}
