package systemd

import (
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// takeWatchdog reads how often the manager wants to hear from this process; 0 for
// never. Afterwards the environment says the same to the next generation: with
// $WATCHDOG_PID it would find another process named and never ping, and be
// killed for it.
func takeWatchdog() time.Duration {
	every, err := daemon.SdWatchdogEnabled(false)
	forget(envWatchdogPID)
	if err != nil || every <= 0 {
		// Also when the pings are expected from another process, a wrapper for
		// instance: then they are not the next generation's task either.
		forget(envWatchdogUsec)
		return 0
	}
	return every
}

// WatchdogInterval is how often to call [Notifier.Ping]: half of $WATCHDOG_USEC, as
// sd_watchdog_enabled(3) recommends. It is false if the unit has no WatchdogSec=, or
// expects the pings from another process.
func (n *Notifier) WatchdogInterval() (time.Duration, bool) {
	return n.watchdog / 2, n.watchdog > 0
}

// Ping tells the manager that this process is alive. Send it from where the work is
// done, so that it stops when the work hangs.
func (n *Notifier) Ping() {
	_ = n.send(daemon.SdNotifyWatchdog)
}
