// Package routes is the HTTP face of a Holdfast service: the Gin engine, its
// middleware, the probes, and the demonstration routes.
//
// What it promises:
//
//   - Every request that reaches the engine leaves one log line and carries one
//     request id, which the answer, the error body and the log line share.
//
//   - Every error the engine answers has one form, 404 and 405 included:
//     {"error":{"code":"…","message":"…","request_id":"…","fields":[…]}}
//
//   - A request that was not answered is never made to look like a 200: time
//     that ran out is a 503, a body that never arrived a 408, a client that went
//     away a 499.
//
//   - Nothing starts a goroutine per request; a handler runs on the goroutine
//     net/http gave it, so when the handler has returned, its work has ended. The
//     exceptions, the watcher of a WebSocket for one, are waited for by their handler.
//
//   - A handler's own lines bear the request's id: [Logger] has the logger, and for
//     code that knows no Gin it is in the request's context, zerolog.Ctx(ctx).
//
//   - No line has a query, a header other than the request id, or a body.
//
// Its limits:
//
//   - What net/http answers by itself never gets here and has its own form: a
//     malformed request line (400), headers that are too large (431), OPTIONS *.
//   - The request timeout ends work that looks at its context, and reads of the
//     body. It does not interrupt a handler that ignores its context, nor a write
//     to a client that does not read: that is http.Server's WriteTimeout.
//   - A client going away is noticed once the request's body has been read, as
//     net/http only then watches the connection. It is not noticed at all behind
//     a pipelined request.
//   - The path is logged as it came, without the query: a secret in a path is in the log.
//   - No proxy is trusted: peer is the address the connection came from.
//   - WebSockets need HTTP/1.1; RFC 8441 (over HTTP/2) is not spoken.
//
// A request on its way in and out:
//
//	request ─ request id ─ identify ─ metrics ─ access log ─ recovery ─ deadline ─ body limit ─ route
//	             │            │          │          │           │           │          │
//	             │            │          │          │           │           │          └ 413
//	             │            │          │          │           │           └ 503, 408, 499
//	             │            │          │          │           └ 500 and the stack
//	             │            │          │          └ one line, with the status that was decided inside
//	             │            │          └ one count, the same
//	             │            └ X-Pid, X-Generation
//	             └ X-Request-Id
//
// For example, with a route of one's own behind the same middleware:
//
//	engine := routes.New(routes.Deps{Log: p.Log(), Ready: p.Ready, Leaving: handoff.Leaving})
//	engine.GET("/stock", func(c *gin.Context) {
//		log := routes.Logger(c)
//		log.Warn().Int("left", 2).Msg("almost sold out")
//	})
//
// The package knows nothing of upgrades. What it needs of the process around it
// are functions in [Deps]. Ready and Leaving are enough for a service that is
// replaced; with Resume its WebSockets move to the next process, at a message
// boundary, and their clients see nothing of it. State and Relay let the members of a
// chat room do so one by one, while the room goes on.
package routes
