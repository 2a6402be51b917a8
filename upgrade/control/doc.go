// Package control is how an operator, or a script, talks to a running service: plain
// HTTP and JSON on a listener of its own, so that curl will do.
//
//	curl --unix-socket /run/app/app.pid.admin http://x/status
//
// # Promise
//
// Whoever asks learns the truth: POST /upgrade is answered when the upgrade has
// succeeded or failed, by the process that knows. A request that waits while another
// upgrade runs, and is then the next generation's to carry out, moves to that process
// with its connection.
//
// # Requests
//
//	GET  /         the status page, for a browser: package page
//	GET  /status   report.Status
//	POST /upgrade  report.Outcome: 200 if it succeeded, 409 if it failed. ?force=1 shortens
//	               the drain of a predecessor that would have to be waited for; ?wait=0
//	               answers 202 with the status at once.
//	GET  /events   report.Event, one JSON line for each change, the first at once. The
//	               stream ends when another generation serves: the client comes again.
//	               With "Accept: text/event-stream" it is the status page's stream of
//	               server-sent events, taken up by Last-Event-ID.
//	GET  /verify   health.Report, after ?for=30s of watching: 200 if the service keeps its
//	               rules, 409 if it does not
//	GET  /metrics  what Prometheus scrapes: package metrics
//	GET  /debug/pprof/  the runtime's profiles, a list of them; /debug/pprof/profile?seconds=30
//	               is that of the CPU, /debug/pprof/trace an execution trace. It needs what a
//	               change needs, for a profile costs. A recording ends early, with what
//	               there is, when another generation serves.
//	GET  /log-level  LogLevel: what is logged now, and what is configured
//	PUT  /log-level  {"level":"debug","for":"10m"}, without "for" until the generation ends;
//	               answers with the LogLevel. The next generation begins with its
//	               configuration, whatever was set here.
//	GET  /reports  the last upgrades, a list of report.Outcome, oldest first
//
// Every other answer is an error: {"error":{"code":"…","message":"…"}}. Among them are 503
// with the code "stopping", when nobody will carry out an upgrade any more, and
// "passed_on", when the next generation will, but the question could not move to it: ask
// that one.
//
// # Who may
//
// On a Unix socket, processes of the same user and of root: mode 0600, and the kernel's
// word for each connection (SO_PEERCRED, unix(7); where there is none, the mode has to
// do). On TCP, which is for loopback only, every user of the machine may read, also the
// paths of the requests that are being carried out; whatever changes something, and each
// profile, needs the bearer token. Web pages of other sites may do nothing, also where the browser
// comes through a tunnel to the Unix socket: the Host header must name this machine, or
// on the Unix socket be a name without a dot.
//
// # Stream
//
// What a browser gets at /events, each event with JSON as its data:
//
//	begin    what an upgrade needs here, and the figures of the last five minutes:
//	         report.Second, a list
//	reports  the last twenty upgrades, as /reports has them; again when one has ended
//	mark     a moment of an upgrade, report.Mark. Its id is above that of every mark
//	         before, in this generation and in those before it
//	view     report.View, about each second, four times a second during an upgrade, and at
//	         once when something changes; with the figures of the last seconds
//
//	main, scripts ──▶ Client ─── HTTP ───▶ Server ──▶ Service (package upgrade)
//	                                         │ ▲
//	                        question moves   ▼ │ Resume
//	                                   the next generation
//
// # Limits
//
// Not for the network. A client that does not read its events is cut off and comes
// again; what it missed is in the status. At most 64 status pages are served at once; a
// client has ten seconds to read what it was sent.
package control
