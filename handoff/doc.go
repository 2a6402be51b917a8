// Package handoff owns the sockets of a service whose binary is replaced while
// it runs: the listener set that travels from one process to the next, the
// connections that were accepted from it, and their drain.
//
// # Promise
//
// A [Server] serves an ordinary [net/http.Server] and can be asked to let go of
// all its connections without losing one request:
//
//   - [Listener.Park] ends accepting while the listening socket stays open, and
//     returns only when every accept loop has confirmed it: a connection that
//     the kernel had handed out is served, not missed.
//   - [Server.Drain] finishes each request whose first byte has arrived. The
//     next response on each connection carries "Connection: close" (RFC 9112
//     section 9.6). HTTP/2 connections get GOAWAY twice (RFC 9113 section 6.8):
//     first one that refuses no stream, and the one that names the last stream only
//     when the client has acknowledged the first and been quiet since.
//   - A connection on which nothing arrives is left open as long as the drain
//     permits and then closed at a message boundary, spread over a window, after a
//     last look into its receive queue.
//   - What is still running at the deadline is closed, and each request that
//     this cut is reported with method, path, age and peer.
//
// [net/http.Server.Shutdown] is not used for HTTP/1: it closes connections that
// it believes idle while a request is already on its way to the handler, and
// returns without an answer for a request that it has just read
// (golang/go#23829, #36819, #65802).
//
// # Limits
//
// A client that stays silent until the moment its connection is closed, and
// sends in that very instant, meets a closed connection; HTTP/1.1 offers a server no
// way to avoid this (RFC 9112 section 9.5). A client that pipelines must be ready
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
// # A connection during the drain
//
//	                 request begins                 response written
//	silent ───────────────────────────▶ busy ───────────────────────────▶ closed
//	  │   (boundary: no byte of a                "Connection: close"        ▲
//	  │    message was read)                                                │
//	  ├──────────── its turn in the window, receive queue empty ────────────┤
//	  └──────────── drain deadline ── request cut, reported ────────────────┘
//
// # Between two processes
//
// A [Link] is the socketpair (AF_UNIX, SOCK_SEQPACKET: unix(7)) that the new
// process inherits. Both say hello, the new one confirms that it serves, the old
// one tells when it has let go of its exclusive work. A new process that gives up
// says why before it exits. The end of the file is a message too: the peer is gone.
//
//	old                                    new
//	 │── hello {versions, build, …} ──────▶│   warm-up
//	 │◀───────────────────────── hello ────│
//	 │   (ready, by whoever started it)    │   PID file, service manager
//	 │◀───────────────────── committed ────│
//	 │   parks, drains                     │
//	 │── released ────────────────────────▶│   exclusive work starts
//	 ✕ exits
//
// The package knows no web framework, no re-exec library and no service
// manager. It is written for Linux; elsewhere it builds and runs without the
// look into receive queues, and [NewLink] reports that there is no link.
package handoff
