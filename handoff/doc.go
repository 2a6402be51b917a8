// Package handoff owns the sockets of a service whose binary is replaced while
// it runs: the listener set that travels from one process to the next, the
// connections that were accepted from it, their move to that process, and the drain
// of those that cannot move.
//
// # Promise
//
// A [Server] serves an ordinary [net/http.Server] and can be asked to let go of
// all its connections without losing one request:
//
//   - [Listener.Park] ends accepting while the listening socket stays open, and
//     returns only when every accept loop has confirmed it: a connection that
//     the kernel had handed out is served, not missed.
//   - [Server.Move] hands established HTTP/1.1 connections without TLS, TCP and
//     Unix, to another process, where the client goes on as if nothing had happened:
//     those that wait for a request at once, the others when their response is
//     written. Hijacked ones move if their handler says where: [Movable].
//   - Each connection is read by exactly one process: the sender's until the receiver
//     has acknowledged it, the receiver's from then on. Whatever happens to either
//     in between, it is served by one of them.
//   - [Server.Drain] finishes each request whose first byte has arrived. On
//     connections that cannot move, the next response carries "Connection: close" (RFC 9112
//     section 9.6). HTTP/2 connections get GOAWAY twice (RFC 9113 section 6.8):
//     first one that refuses no stream, and the one that names the last stream only
//     when the client has acknowledged the first and been quiet since.
//   - A connection that cannot move and on which nothing arrives is left open as long
//     as the drain permits and then closed at a message boundary, spread over a
//     window, after a last look into its receive queue.
//   - What is still running at the deadline is closed, and each request that
//     this cut is reported with method, path, age and peer.
//   - An [Account] says what became of each connection, and balances.
//
// [net/http.Server.Shutdown] is not used for HTTP/1: it closes connections that
// it believes idle while a request is already on its way to the handler, and
// returns without an answer for a request that it has just read
// (golang/go#23829, #36819, #65802).
//
// # Limits
//
// TLS connections cannot move: the state of crypto/tls is not to be had. They are
// drained, and [Tickets] let their clients resume the session with the next process.
// Neither can HTTP/2 connections, nor a request that is being carried out: it ends
// where it began. A connection that a process has acknowledged dies with that process.
//
// A client on a connection that cannot move, which stays silent until the moment it
// is closed and sends in that very instant, meets a closed connection; HTTP/1.1 offers a server no
// way to avoid this (RFC 9112 section 9.5). A client that pipelines there must be ready
// to repeat what follows a response with "Connection: close" (RFC 9112 section
// 9.3.2).
//
// Streams of an HTTP/2 client that cross the first GOAWAY on the wire are answered.
// A stream is refused only if its client opens it against RFC 9113 section 6.8: more
// than a second after its acknowledgement, or when the time for silent
// connections is over. Such a client may repeat it, for the final GOAWAY says
// which streams were not processed. An HTTP/2 server that the service has put into
// http.Server.TLSNextProto itself, and HTTP/2 without TLS, get "Connection: close"
// instead, which net/http turns into the final GOAWAY at once.
//
// To the http.Server of the next process a connection that has moved is a new one:
// its ConnState begins with StateNew and ConnContext is called again. Its addresses,
// its listener, its socket options and the time that was left of its IdleTimeout are
// those it had.
//
// # Example
//
// Package upgrade does all of this for a service; by itself it is
//
//	set := handoff.NewSet(inherited, passed, handoff.BindOptions{})
//	listeners, err := set.Listen(address)
//	server, err := handoff.NewServer(&http.Server{Handler: handler})
//	server.Start(listeners[0], broke)
//	…
//	err = listeners[0].Park(ctx)
//	report := server.Drain(ctx, handoff.DrainOptions{Timeout: 30 * time.Second})
//
// # Where a connection can move
//
// At a boundary between two messages, where no byte of either lies in the process,
// but for up to three whose place is known. net/http has no such notion; what can be
// seen of it from below the connection tells exactly: the states it reports, the
// deadlines it sets, and the sizes that it reads.
//
//	           Read of any size, no byte yet: boundary
//	StateNew ─────────────────────────────────────────────▶ first byte
//	                                                            │
//	  ┌──────── response written ◀── StateActive ◀── head read ─┘
//	  ▼
//	StateIdle ── SetReadDeadline ── Read of 4096-k bytes, k ≤ 3: boundary,
//	  ▲                              the last k bytes delivered travel along
//	  │                                                         │
//	  └── second SetReadDeadline: a request's head is read, ◀───┘
//	      and no Read is a boundary, whatever its size
//
// This is the inside of net/http, so [SelfTest] has the running toolchain serve a
// few requests and compares. If it does otherwise, connections do not move and are
// drained. A Read that waits at a boundary is woken by a read deadline; others are
// left alone, for the deadline of a read that watches for the client's end beside a
// running handler would cancel its request.
//
// # A connection during the move and the drain
//
//	                        boundary
//	waiting or busy ─────────────────▶ in transit ── acknowledged ──▶ the peer's
//	     │    ▲                            │
//	     │    └── refused, peer dead ──────┘
//	     │
//	     │ cannot move             response written
//	     ├──────────────▶ busy ───────────────────────▶ closed
//	     │                       "Connection: close"      ▲
//	     ├── silent: its turn in the window, queue empty ─┤
//	     └── drain deadline: request cut, reported ───────┘
//
// # Between two processes
//
// A [Link] is the socketpair (AF_UNIX, SOCK_SEQPACKET: unix(7)) that the new
// process inherits; a [Peer] is the process at its other end. Messages are JSON, one
// in a datagram, and a receiver ignores types and fields that it does not know, so
// that generations of different versions work together; without a common version the
// old one drains. Descriptors travel beside an offer or a blob (SCM_RIGHTS), up to
// 253 at a time.
//
//	old                                       new
//	 │── hello {versions, build, …} ─────────▶│
//	 │◀──────────────────────────── hello ────│
//	 │◀─────────────────────── want-state ────│
//	 │── state {name, version} + memfd … ────▶│
//	 │── state-end ──────────────────────────▶│   warm-up; accepts
//	 │◀───────────────────────── takeover ────│
//	 │   parks its accept loops               │
//	 │── offer 1 {kind, listener, …} + fds ──▶│   adopts
//	 │── offer 2 … ──────────────────────────▶│
//	 │◀──────────────── ack 1 {a bit each} ───│   and only now reads
//	 │◀──────────────── ack 2 ────────────────│
//	 │── over ───────────────────────────────▶│
//	 │   (ready, by whoever started it)       │   PID file, service manager
//	 │◀──────────────────────── committed ────│
//	 │── report ─────────────────────────────▶│   how it saw the upgrade
//	 │   drains                               │
//	 │◀─────────────────────── (hurry) ───────│   the next upgrade shall not wait
//	 │── report {what is left} … ────────────▶│
//	 │── offer 3 … ──────────────────────────▶│   as they become idle
//	 │── released ───────────────────────────▶│   exclusive work starts
//	 │◀─────────────────────── (metrics) ────▶│   from the hellos on, each asks the other
//	 │── state {…, final}, bye {account} ────▶│
//	 ✕ exits
//
// Instead of committing, the new process can give back what it has: it sends
// give-back, the old one accepts again and says resumed, and only then does the new one
// park and send offers the other way. A new process that gives up says failed, with the
// reason, before it exits. The end of the file is a message too: the peer is gone, and
// what it has not acknowledged it has never read.
//
// At most four offers wait for their answer, so a slow receiver slows the sender. What
// the receiver has no room for (EMFILE) it does not acknowledge; what the kernel does
// not carry (ETOOMANYREFS) waits for an answer; a peer that does not answer within the
// bound is given up, in a way that leaves no connection in doubt: see [Sender].
//
// The package knows no web framework, no re-exec library and no service
// manager. It is written for Linux; elsewhere it builds and runs without the
// look into receive queues, and [NewLink] reports that there is no link.
package handoff
