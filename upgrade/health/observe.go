package health

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Handler measures what next answers, without an allocation of its own.
//
// Latency is the time until the answer begins to leave the process: the end of the
// handler, or before that the first Flush, the first byte beyond 4 KiB (where net/http
// stops buffering), a ReadFrom, or a Hijack. So a stream or a WebSocket counts with
// what its client waited for, and not with its whole life, and a slow reader is not
// taken for a slow service. A slow sender is: the handler waits for it.
//
// The status is the one that was written, 200 if none was; a hijacked connection
// counts as 101. A panic counts as a failure and is passed on. [http.ErrAbortHandler]
// is no panic, but how an answer is cut off on purpose: a failure, unless the client
// had left. Nor is a status of 500 or more a failure when the client had: handlers
// give one when the context of the request is canceled. A middleware below that recovers from panics hides them; it can call
// [MarkPanic]. Requests that a probe makes of the handler without a socket are
// not counted.
//
// The response writer below is of use during the request only, as net/http demands:
// it is another request's afterwards. It has Unwrap, and exactly the ones of
// http.Hijacker, io.ReaderFrom and http.Pusher that net/http's own has.
func (w *Window) Handler(next http.Handler) http.Handler {
	o := &observer{window: w, next: next}
	o.pool.New = o.newResponse
	return o
}

// statusClientGone is nginx's number for a client that left before its answer.
const statusClientGone = 499

type observer struct {
	window *Window
	next   http.Handler
	pool   sync.Pool // of *response
	made   atomic.Uint32
}

// newResponse gives every response a shard. A sync.Pool keeps its items by
// processor, so each processor comes to have its own.
func (o *observer) newResponse() any {
	n := o.made.Add(1) % uint32(len(o.window.shards))
	m := &response{window: o.window, shard: &o.window.shards[n]}
	m.h1.response, m.h2.response = m, m
	return m
}

// ServeHTTP implements [http.Handler].
func (o *observer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if fromProbe(r) {
		o.next.ServeHTTP(rw, r)
		return
	}
	m := o.pool.Get().(*response)
	m.begin(rw, r)
	defer o.end(m)
	o.next.ServeHTTP(m.writer(), r)
	m.returned = true
}

// end counts the request. It is deferred, and the original panic's frames are still
// on the stack when it panics on: net/http's log has them.
func (o *observer) end(m *response) {
	if m.returned {
		m.leaves()
		if m.panicked {
			m.spoil(true)
		}
		if !m.hijacked { // else somebody may keep the writer with the connection
			m.ResponseWriter, m.request = nil, nil
			o.pool.Put(m)
		}
		return
	}
	v := recover()
	err, _ := v.(error)
	switch {
	case v != nil && !errors.Is(err, http.ErrAbortHandler):
		m.spoil(true)
	case !m.abandoned(): // aborted, or runtime.Goexit
		m.spoil(false)
	default:
		m.leaves()
	}
	if v != nil {
		panic(v)
	}
}

// MarkPanic counts the request as one that panicked. A middleware that recovers calls
// it with its response writer, from which the measuring one is found by Unwrap; false:
// there is none. A package that does not import this one can look for
// interface{ MarkPanic() } in the same way.
func MarkPanic(w http.ResponseWriter) bool {
	for {
		if m, ok := w.(interface{ MarkPanic() }); ok {
			m.MarkPanic()
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// begin prepares a response for another request.
func (m *response) begin(rw http.ResponseWriter, r *http.Request) {
	m.ResponseWriter, m.request = rw, r
	m.start = time.Since(m.window.epoch)
	m.status, m.written = 0, 0
	m.left, m.returned, m.panicked, m.hijacked, m.failed = false, false, false, false, false
}

// leaves counts the request, once, when its answer begins to leave the process.
func (m *response) leaves() {
	if m.left {
		return
	}
	m.left = true
	now := time.Since(m.window.epoch)
	status := m.status
	if status == 0 {
		status = http.StatusOK
	}
	if status >= 500 && m.abandoned() {
		status = statusClientGone
	}
	m.failed = status >= 500
	m.window.observe(m.shard, now, status, now-m.start, false)
}

// abandoned tells that the client has left. Nothing else ends the context that
// net/http gives a request; deadlines are on contexts below.
func (m *response) abandoned() bool { return m.request.Context().Err() != nil }

// spoil makes a failure of the request.
func (m *response) spoil(panicked bool) {
	m.leaves()
	if !m.failed {
		m.failed = true
		m.shard.failures.Add(1)
	}
	if panicked {
		m.shard.panics.Add(1)
	}
}
