// Package supervise is a small foreground parent for a service that replaces its own
// process, where there is no systemd: PID 1 of a container, below supervisord or
// runit, in a terminal. To those the service is one process that stays.
//
// # Promise
//
//   - It ends when the service ends, and not before: when the process that it follows
//     exits, it looks at the PID file, and goes on with the process named there.
//   - It believes the PID file only if that was written since the start and names a
//     living descendant. What an earlier run or another container has left there, and a
//     pid that now belongs to somebody else, mean nothing.
//   - Its exit code is that of the last generation, 128 and the signal's number if that
//     was killed; 127 or 126, as in a shell, if the command cannot be started.
//   - When it ends, nothing is left of what the command has started: the rest gets
//     SIGTERM, and a little later SIGKILL. No zombie stays, whoever's child it was.
//   - Every stop is bounded by [Command.StopTimeout].
//
// # Limits
//
// Linux, with /proc mounted for its own PID namespace. The command finds its standard
// streams as they are, but not the terminal: it gets a session of its own (setsid(2)),
// so that Ctrl-C reaches a service once, through here, and not a second time from the
// terminal, which would mean "at once". For an interactive shell that is the wrong
// parent.
//
// If supervise itself is killed by SIGKILL, the kernel ends everything where it was PID
// 1 of a namespace. Elsewhere the service goes on without it, and no client notices;
// a new supervise cannot start until it is stopped by the PID file, and says so.
// PR_SET_PDEATHSIG is no help: it holds for a child, and not for the child's children,
// which later generations are.
//
// A generation that dies while the one before it still drains is that one's child;
// nobody else learns how it ended. The exit code is then 1 instead of the other's 0.
//
// A command that writes no PID file is followed as any other parent would do; its end
// is the end.
//
// # States
//
//	          another generation is named
//	            ┌───────────┐
//	            ▼           │
//	start ─▶ Following ─────┴─▶ Ending ─▶ Ended
//	            │    ▲            ▲  TERM to what is left, then KILL
//	      gone, │    │ named      │
//	            ▼    │            │ none lives, or none is named in time
//	         Awaiting ────────────┘
//
// Awaiting is for the crash of a generation while its successor starts: the lock beside
// the PID file says that one lives.
//
// # Signals
//
//	SIGTERM, SIGINT     a stop: to the current generation and those that still drain,
//	                    each time that it comes, for a second one means "at once"
//	SIGUSR2, SIGHUP     to the current generation, when it serves
//	SIGUSR1             the same
//	SIGQUIT             the same, at once: a dump of its goroutines, which ends it
//	SIGHUP              a stop, if it came because the terminal was closed
//	SIGTSTP (Ctrl-Z)    stops supervise alone; the service goes on
//
// SIGPIPE is nothing here: a reader of the log that has gone must not end the service.
//
// Libraries exist for parts of it (hashicorp/go-reaper's kind for zombies, tini for
// PID 1). Following generations, the part that matters, is in none of them, and
// reaping is one system call whose results it must share.
package supervise
