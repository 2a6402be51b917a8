// Package systemd is what a service needs to be a good child of systemd while it
// replaces itself: it tells the manager which process serves, takes the sockets
// that the manager passes, leaves its own with it, and keeps the next generation from
// inheriting what was meant for this one only. [Unit] prints the units of a service;
// beside it stand those for the documented defaults, and the deploy script.
//
// # Promise
//
//   - Without a manager ($NOTIFY_SOCKET is unset) everything here does nothing, at
//     once and without an error.
//   - When [Notifier.Ready] has returned nil, the manager has read it: it follows
//     the new process, and the old one may exit.
//   - No text that a service reports can be mistaken for a field of the protocol, or
//     make a message so long that the manager drops it.
//   - Every send and every wait is bounded by [Notifier.Timeout], also when the
//     manager is stopped, frozen or busy.
//   - A socket that the manager passed is taken once, whoever asks.
//   - A socket that was left with the manager is told from those of a socket unit by its
//     name, which says what it was made for.
//   - A unit that is printed is accepted by systemd 252 and later without a word, and says
//     what it was given, whatever characters are in it; what cannot be written is an error.
//
// # Limits
//
// It speaks to the manager only through its notification socket and environment, not
// over D-Bus. $NOTIFY_SOCKET must be a Unix socket; AF_VSOCK is not spoken. Only
// listening stream sockets are taken. The manager never says whether it has kept a
// descriptor: with FileDescriptorStoreMax=0, the default, it closes what it is given.
//
// A manager that accepts notifications but neither answers barriers nor closes the
// descriptors it gets delays each Ready by Timeout; systemd has always done one of
// the two.
//
// # Example
//
//	manager := systemd.New()
//	passed, err := systemd.Listeners() // by FileDescriptorName=
//	manager.Status("warming up")
//	err = manager.Ready("serving", os.Getpid()) // systemd has read it
//
// # One upgrade
//
//	old                                   new                       systemd
//	RELOADING=1, MONOTONIC_USEC=…  ───────────────────────────────▶ reloading
//	  │ starts new                         │
//	  ├───────────────────────────────────▶│
//	  │ EXTEND_TIMEOUT_USEC=…, each second │ STATUS=…, each phase ─▶ waits on
//	  │                                    │ FDSTORE=1, FDNAME=…  ─▶ holds the sockets, too
//	  │                                    │ MAINPID=…, READY=1   ─▶ running, follows new
//	  │                                    │ BARRIER=1 and a pipe ─▶ closes the pipe
//	  │◀─────────────── confirmed ─────────│
//	  │ drains, exits                      │ WATCHDOG=1 …
//	  │                                    │ STATUS=… what old still drains
//
// and when it fails:
//
//	MAINPID=old, READY=1, STATUS=why  ────────────────────────────▶ running, follows old
//
// Why in this order:
//
//   - RELOADING=1 must be answered by READY=1, also when the reload failed, or the
//     unit stays "reloading" until its time is up: sd_notify(3). MONOTONIC_USEC= is
//     what Type=notify-reload (systemd 253) matches the READY=1 with; older managers
//     ignore it.
//   - TimeoutStartSec= bounds a reload as well, and each of its commands anew;
//     EXTEND_TIMEOUT_USEC= keeps it away while the service says that it still works:
//     systemd.service(5). It is said again and again, since what is said before a command
//     is started does not count for that one, and since it moves the watchdog as well.
//   - MAINPID= and READY=1 travel in one message: between two, the manager would take
//     the service for ready and still follow the old process.
//   - Only when the barrier has come back may the old process exit. The manager
//     that sees it exit first takes the service for dead and restarts it. It also needs
//     the sender alive to find out whose message it reads: sd_notify_barrier(3).
//   - The new process is the manager's grandchild, so NotifyAccess=all: main would
//     drop its messages, systemd.service(5). The manager then "supervises a process
//     which is not our child": it notices its end, but cannot wait for it, which is
//     why holdfast.service has an ExecStop= that does.
//   - $WATCHDOG_PID names the first generation. It is removed and $WATCHDOG_USEC is
//     kept, so that every later generation knows that it must ping:
//     sd_watchdog_enabled(3). READY=1 carries a WATCHDOG=1: the manager's clock goes on
//     through an upgrade, and the next generation's first ping may be too late for it.
//
// # Type=notify and Type=notify-reload
//
// The messages are the same for both. With Type=notify an ExecReload= has to ask for the
// upgrade. With Type=notify-reload (systemd 253) the manager itself does, by ReloadSignal=:
// SIGHUP, the default, and SIGUSR2 both do. It then runs ExecReload=, if there is one, and
// the reload lasts at least until the READY=1 that follows our RELOADING=1
// (service_enter_reload in systemd's src/core/service.c). It takes every READY=1 for a
// success, also that of an old generation that goes on. So for both types an ExecReload=
// that waits for the outcome is what makes `systemctl reload` fail where the upgrade has
// failed; without it only STATUS= tells. A request that waits for the end of an earlier
// generation's drain asks for more time until its RELOADING=1 can be sent.
//
// # The descriptor store
//
// What is stored comes back after a crash, an abort by the watchdog, an end for lack of
// memory and a restart, beside the sockets of a socket unit; `systemctl stop` ends it.
// Until then clients wait in the queue of the socket instead of being refused. This is so
// during a stop as well, for nobody tells a service whether it stops for good or to be
// started again. Sources: FDSTORE= in sd_notify(3), FileDescriptorStoreMax= in
// systemd.service(5).
package systemd
