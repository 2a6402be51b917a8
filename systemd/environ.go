package systemd

import "os"

// What systemd.exec(5) puts into the environment of a service. $NOTIFY_SOCKET and
// $WATCHDOG_USEC hold for every generation and stay. The others name one process,
// or descriptors that it has under fixed numbers: in the next generation they would
// be wrong, so they are removed when they have been read.
const (
	envNotifySocket = "NOTIFY_SOCKET"
	envWatchdogUsec = "WATCHDOG_USEC"
	envWatchdogPID  = "WATCHDOG_PID"
)

// envListen is what comes with passed sockets; LISTEN_PIDFDID since systemd 258.
var envListen = []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"}

// forget removes variables. Unsetenv fails for no name that is used here.
func forget(names ...string) {
	for _, name := range names {
		_ = os.Unsetenv(name)
	}
}
