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

// WatchdogTimeout is how long the manager waits for a [Notifier.Ping] before it takes
// the service for hung: $WATCHDOG_USEC. It is false if the unit has no WatchdogSec=, or
// expects the pings from another process.
func (n *Notifier) WatchdogTimeout() (time.Duration, bool) {
	return n.watchdog, n.watchdog > 0
}

// Ping tells the manager that this process is well. Send it when that has been found
// out, and at least twice in the timeout: sd_watchdog_enabled(3).
func (n *Notifier) Ping() {
	_ = n.mention(daemon.SdNotifyWatchdog)
}
