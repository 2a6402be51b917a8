// Package upgrade is the process that replaces itself: it starts a new process
// from the binary on disk, passes the listening sockets on, lets the new one
// prove itself, and only then drains and exits.
//
// # Promise
//
// At any point in time one or two generations of a service are alive, and one of
// them accepts connections. Until the new generation is ready, nothing has been
// taken from the old one: if the binary cannot be executed, or the new process
// exits, panics or hangs, the old one goes on as if nobody had asked, and says
// why. Before the commit the connections move to the new one ([handoff] has how);
// it gives them back if it does not commit after all. From the commit on, the old
// one accepts nothing, finishes what it has begun, moves what that leaves idle, and
// exits.
//
//   - A client of plain HTTP/1.1 keeps its connection. What cannot move is drained
//     without losing a request.
//   - What the service has in memory can go with it: [Process.Carry] for state,
//     [Process.Resume] for hijacked connections, [Process.Relay] for a conversation
//     between the two generations meanwhile.
//   - A request for an upgrade is never lost. While one runs, or while the previous
//     generation still drains, it is kept and carried out afterwards; several of
//     them become one, since each would start the same binary.
//   - Whoever asked learns the truth: through the admin listener (package [control]),
//     the state file ([Wait]) and the reports, with the phase, the reason and what the
//     new process wrote last. The reports of the last hundred upgrades outlive
//     generations, restarts and crashes.
//   - Metrics for Prometheus are on the admin listener, and their counters go on over
//     upgrades, the service's own ones too: [Config].Metrics, package [metrics].
//   - The PID file names a live process that serves: it is written atomically by
//     the new generation after it has begun to accept, and the old one stays until
//     that is done.
//   - Every wait is bounded by a setting of [Config].
//   - Under systemd the listening sockets outlive every process of the service: after a
//     crash clients wait until it has been started again (FileDescriptorStoreMax= in the
//     unit). The files of Unix sockets then stay at a stop, unless RuntimeDirectory= sees
//     to them.
//
// # Limits
//
// One Process per operating system process (tableflip's rule). The new process
// is started with the arguments, the working directory and the environment of the
// first one; what is to change between generations belongs into a file that each
// reads anew. A new generation that dies after it has taken over is the service
// manager's to restart; its predecessor then hastens its own drain. If it dies
// during the takeover, the connections that it had acknowledged die with it, and the old one
// goes on with the rest. What a new process writes to its standard error before it
// calls [CaptureStderr], or else [New], a panic of an init function for example, is in
// the log's stream but is not quoted. Linux is the
// target; on other Unix systems upgrades work without the link between the
// generations, so a successor is not known by pid.
//
// # Example
//
//	cfg := upgrade.Config{Addr: ":8080", PIDFile: "/run/app/app.pid", Log: &logger}
//	err := upgrade.Run(ctx, handler, cfg) // until a stop, or until the next generation has taken over
//
// And, once there is another binary under the same path:
//
//	kill -USR2 $(cat /run/app/app.pid)
//
// # Log
//
// Each line has pid, build and generation, that of a handler as well if it uses
// zerolog.Ctx(r.Context()). A generation writes "started", what its warm-up, gate, canary
// and probation said, "serving", "upgrade begins" and "upgrade failed…" or "upgrade
// committed…", "drained" with the account, and "exit", with the error if one ended it;
// and "state" at each change. Queries, headers, bodies, the token and the environment are
// in no line.
//
// The level is zerolog's global one (zerolog.SetGlobalLevel), which an operator can
// change while the service runs. So give Config a logger without a Level of its own: it
// would write nothing below that. The next generation begins with its configuration.
//
// # States
//
//	           warm-up done              USR2, HUP
//	Starting ───────────────▶ Serving ◀───────────▶ Upgrading (takeover at its end)
//	   │                         │     failed           │
//	   │                         │ TERM, INT            │ new generation confirmed
//	   │                         ▼                      ▼
//	   │                    (Withdrawing)           Draining
//	   │        TERM, INT        ▼                      │
//	   └───────────────────▶ Stopping                   │
//	                             │                      │
//	                             └──────▶ Stopped ◀─────┘
//
// Withdrawing is there with Config.StopDelay only: serving as before, and not ready.
//
// One goroutine, [Process.Run], owns the state; everything else reaches it as an
// event.
//
// # One upgrade
//
//	old: Upgrading                            new: Starting
//	  checks the binary, starts it ─────────▶ hello
//	  saves its state ──────────────────────▶ loads it, runs the warm-up hooks
//	                                          gate: asks its own probes
//	  gives its figures to compare with ────▶ canary: both accept, rules judge the new one
//	  parks, hands connections over ────────▶ serves them
//	  waits, listens for a heartbeat ◀─────── probation: rules judge it under all traffic
//	                                          ready, PID file, service manager
//	old: Draining ◀────────────── committed ─ new: Serving
//	  its view of the upgrade ──────────────▶ in the reports
//	  questions of the admin listener ──────▶ are answered there
//	  finishes, moves, lets go ─────────────▶ exclusive work begins
//	  account of the connections ───────────▶ in the state file, in the reports
//	  exits
//
// Up to "ready" the new generation can give back what it has: when a rule is broken,
// when it or the service is told to stop, or when its PID file cannot be written. If it
// dies or hangs, the old one notices and takes back what did not die with it. If the old
// one dies, the new one goes on at once. [health] has the probes and the rules.
//
// # The watchdog
//
// With WatchdogSec= in the unit, the generation that serves asks itself three times in
// that time, and pings when all of it has answered:
//
//   - the accept loop of each listener takes a connection of the process's own, which
//     does not wait in the kernel's queue; one that is parked, as an old generation's
//     are during a probation, is passed over;
//   - the server behind it answers a request there with a status below 500: the handler
//     on Config.WatchdogPath, or net/http where that is empty;
//   - the owning loop takes the result.
//
// So a deadlock in what every request passes, a dead accept loop, a hung owner and a
// stopped process are all noticed. What is not: a handler of one route that hangs alone,
// unless it is the one that is asked; the admin listener; TLS handshakes. A service that is
// merely slow has two thirds of the time for one answer, and its own request comes before
// all that wait in the queue. A generation that starts, or drains, does not ping.
//
// # Signals
//
//	SIGUSR2, SIGHUP   upgrade; POST /upgrade on the admin listener is the same, with an answer
//	SIGTERM, SIGINT   stop gracefully, after Config.StopDelay; a second one ends at once
//	SIGUSR1           reopen the log file (Config.ReopenLog), in the other generation, too
//	SIGQUIT           left to the Go runtime: a dump of all goroutines
//
// An old generation that drains passes a request for an upgrade on to its
// successor, and takes SIGTERM as a word to hurry. A forced request for an upgrade
// hurries it, too, and cuts its drain after Config.ForceDrain.
package upgrade
