// Package load is the client that judges Holdfast: it sends requests through an
// upgrade and says which of them were lost.
//
// # Promise
//
//   - Every request is counted: sent = answered + failed, and each failed one has a
//     [Class]. Zero means zero.
//   - Nothing is repeated behind the caller's back. The client writes HTTP/1.1 on
//     the connection itself, over TCP, a Unix socket or TLS; no pool, no retry.
//   - "Answered" means that the answer was complete and right: status 200, strictly
//     framed, with the id of this request, and the body that this request must have.
//     A message to a chat is answered when it has come back as an entry, once, and no
//     entry of the room was missing, repeated or out of order before it.
//   - The client never cuts a request of its own: when it is told to stop, each
//     worker finishes the request at hand.
//
// # What is no failure, but counted
//
//   - Told to close: an answer said "Connection: close", or a WebSocket got Close
//     1012, service restart. The client connects again, as it was asked to.
//   - Repeated: a WebSocket message that crossed a Close 1012 on its way. RFC 6455
//     section 5.5.1 forbids the server to answer it; the same message, counted once
//     as sent, goes out on the next connection. In a chat that connection begins behind
//     the last entry of the one before.
//   - Reconnect: the server closed an idle connection without a word, and the client
//     saw it before it sent. No request was lost, but nginx in its place might have
//     lost one, so Holdfast aims at zero.
//   - Moved: a reused connection was answered by another process than before.
//
// # Limits
//
// HTTP/1.1 only, one request at a time on a connection, no redirects, no
// compression, no body that ends by closing the connection. After a failure a worker
// waits 10 ms, so that a server that is down costs a countable number of requests.
// A connection is looked at just before it is used, as a careful pool does; a close
// that comes in the microseconds after that look is a failure, as it is for everyone.
// A WebSocket names its process in the handshake only, so its messages are in no
// generation's count, and its move to another process is seen by nobody. The client lives on Unix; where a process id cannot be held on
// to (pidfd_open, Linux 5.3) ends of processes are polled for.
//
// # One connection
//
//	            ┌─────────────── pause, look ◀───────────────┐
//	            │                   │ EOF: reconnect         │
//	            ▼                   ▼                        │
//	dial ─▶ write ─▶ read ─▶ check ─┬─ right ────────────────┘
//	 │        │       │        │    └─ right, told to close ─▶ close, dial
//	 ▼        ▼       ▼        ▼
//	refused  reset   EOF    status, corrupt
//	         timeout truncated
//
// # Use
//
//	p, err := load.Serve(binary, dir, "127.0.0.1:0").Start(ctx)
//	defer p.Kill()
//	r, err := load.New(
//		load.Workload{Kind: load.Echo, Addr: p.Addr("http"), Conns: 64},
//		load.Workload{Kind: load.Hello, Addr: p.Addr("http"), Conns: 8, NewConn: true},
//	)
//	r.Start(ctx)
//	for range 25 {
//		r.SetPhase(load.During)
//		up, err := p.Upgrade(ctx)
//		err = p.WaitGone(ctx, up.OldPID)
//		r.SetPhase(load.After)
//	}
//	tally := r.Stop()
//	err = tally.Err() // nil if not one request was lost
//	err = p.Stop(ctx)
package load
