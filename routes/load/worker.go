package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"
)

// afterFailure is the pause after a lost request.
const afterFailure = 10 * time.Millisecond

// worker sends one request after another. Its goroutine owns all of it; others may
// look at seq and failed once that has ended.
type worker struct {
	Workload
	n      *counters
	phase  *atomic.Int32
	prefix string
	index  int    // in the run, over all workloads
	host   string // of the Host header

	seq    int64   // of the next request
	failed []int64 // seq of each one that was lost

	c      *conn
	lost   bool          // the request before was
	last   last          // connection's story, for the example of a failure
	waited time.Duration // time the request at hand was meant to take

	posted bool // the message at hand is on its way
	chat   membership

	out, msg, answer, stream []byte // memory, used again by each request
}

// last is what the connection was when the request at hand began.
type last struct {
	reused          bool
	pid, generation int
	local           string
}

// run sends requests until ctx ends or the workload's requests are used up.
func (w *worker) run(ctx context.Context) {
	defer w.bye()
	for w.rest(ctx) && w.n.take(w.MaxRequests) {
		w.request()
	}
	if w.chat.bad != nil {
		w.request() // which fails for that: what was seen in a pause counts, the last one too
	}
}

// rest pauses and then looks at the connection, whose end it counts. It returns
// false when the run is over.
func (w *worker) rest(ctx context.Context) bool {
	var pause time.Duration
	if w.Pause > 0 {
		pause = rand.N(w.Pause)
	}
	if w.lost {
		pause = max(pause, afterFailure)
	}
	until := time.Now().Add(pause)
	for w.c != nil && ctx.Err() == nil {
		err := w.c.rest(ctx, time.Until(until))
		if err == nil {
			return ctx.Err() == nil
		}
		if ctx.Err() != nil {
			return false // what the end of the run did to the wait says nothing
		}
		if err == errSpoke { //nolint:errorlint // never wrapped
			if !w.Kind.socket() {
				return true // it will be read as the answer, and found wrong
			}
			if !w.unasked() {
				return true
			}
			continue
		}
		w.noteConn()
		w.n.reconnects.Add(1)
		w.example(Reconnect, "", err)
		w.hangUp()
	}
	return sleep(ctx, time.Until(until))
}

// sleep returns false if ctx ended before d had passed.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// request carries out one request and counts it.
func (w *worker) request() {
	seq := w.seq
	w.seq++
	id := requestID(w.prefix, w.index, seq)
	w.n.sent.Add(1)
	w.waited = 0
	w.noteConn()
	phase := Phase(w.phase.Load())
	start := time.Now()

	exchange := w.exchangeHTTP
	if w.Kind.socket() {
		exchange = w.exchangeMessage
	}
	err := exchange(seq, id, start.Add(w.Timeout+w.Duration+w.Split))

	if w.lost = err != nil; w.lost {
		w.failed = append(w.failed, seq)
		class := classOf(err)
		w.example(class.String(), id, err)
		w.n.failed[class].Add(1)
		return
	}
	// A request that was under way when the upgrade began, or that ended in it.
	if end := Phase(w.phase.Load()); end == During {
		phase = During
	}
	w.n.latency[phase].record(time.Since(start) - w.waited)
	w.n.answered.Add(1)
}

// requestID is unique in the run: prefix-worker-seq.
func requestID(prefix string, worker int, seq int64) string {
	return prefix + "-" + strconv.Itoa(worker) + "-" + strconv.FormatInt(seq, 10)
}

// connect makes w.c a connection that is open, and gives it the deadline.
func (w *worker) connect(deadline time.Time) error {
	if w.c == nil {
		c, err := dial(w.Addr, deadline)
		if err != nil {
			return err
		}
		w.n.connects.Add(1)
		w.c = c
		w.noteConn()
	}
	return w.c.SetDeadline(deadline)
}

func (w *worker) noteConn() {
	w.last = last{}
	if w.c != nil {
		w.last = last{w.c.asked, w.c.pid, w.c.generation, w.c.LocalAddr().String()}
	}
}

// answeredBy notes the process that answered, and whether the connection has moved.
func (w *worker) answeredBy(pid, generation int) error {
	if w.c.pid != 0 && pid == 0 {
		return fail(Corrupt, "answered without X-Pid on a connection where pid %d had answered", w.c.pid)
	}
	if w.c.pid != 0 && pid != w.c.pid {
		w.n.moved.Add(1)
	}
	w.c.pid, w.c.generation = pid, generation
	if generation > 0 {
		w.n.answeredBy(generation)
	}
	return nil
}

func (w *worker) hangUp() {
	if w.c != nil {
		_ = w.c.Close()
		w.c = nil
	}
}

// bye ends the connection in the way of its protocol.
func (w *worker) bye() {
	if w.Kind.socket() && w.c != nil {
		w.sayGoodbye()
	}
	w.hangUp()
}

// example keeps what a person needs to find this event in the server's log.
func (w *worker) example(what, id string, err error) {
	w.n.example(Example{
		Time: time.Now(), Workload: w.Name, Worker: w.index, ID: id, What: what, Error: fmt.Sprint(err),
		Phase: Phase(w.phase.Load()), Reused: w.last.reused, PID: w.last.pid, Generation: w.last.generation, Local: w.last.local,
	})
}
