//go:build integration && linux

package upgrade_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

// crowd is a number of clients that do the same, and the count of what they met.
type crowd struct {
	name  string // begins the id of each request
	speak func(*dialog)
	size  int
	pause time.Duration // longest pause between two dialogs
	ends  bool          // they end their connections, now and then

	sent, answered, connects atomic.Int64
	failed                   [load.Other + 1]atomic.Int64
	told                     atomic.Int64 // "Connection: close"
	reconnects               atomic.Int64 // idle connections that the server closed
	moved                    atomic.Int64 // another process than before answered on a connection
	repeated                 atomic.Int64 // pipelined behind an answer that told to close
	unasked                  atomic.Int64 // bytes that came where no answer was due

	group    sync.WaitGroup
	mu       sync.Mutex // guards what follows
	examples []string
}

// start lets the clients talk until ctx ends; each finishes what it has begun.
func (k *crowd) start(ctx context.Context, addr load.Addr, round int) {
	for i := range k.size {
		k.group.Go(func() { (&talker{crowd: k, addr: addr, prefix: fmt.Sprintf("%s-%d-%d", k.name, round, i)}).talk(ctx) })
	}
}

func (k *crowd) wait() { k.group.Wait() }

func (k *crowd) lost() (n int64) {
	for class := range k.failed {
		n += k.failed[class].Load()
	}
	return n
}

func (k *crowd) example(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.examples) < 10 {
		k.examples = append(k.examples, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (k *crowd) events() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.examples, "\n")
}

// talker is one client. It has at most one connection, and its goroutine owns it.
type talker struct {
	*crowd
	addr   load.Addr
	prefix string
	seq    int

	conn            *net.TCPConn // nil: none
	br              *bufio.Reader
	asked           bool // a request was answered on it
	pid, generation int  // who answered last on it

	backlog []*question // were pipelined behind an answer that told to close
}

// patience bounds one dialog without its pauses.
const patience = 10 * time.Second

func (t *talker) talk(ctx context.Context) {
	defer t.hangUp()
	for ctx.Err() == nil || len(t.backlog) > 0 {
		if !t.connect() {
			continue
		}
		d := &dialog{talker: t}
		if len(t.backlog) > 0 {
			d.repeat()
		} else {
			t.speak(d)
		}
		d.carryOut()
		t.rest()
	}
}

// connect counts a refusal like a request that was lost.
func (t *talker) connect() bool {
	if t.conn != nil {
		return true
	}
	d := net.Dialer{Timeout: patience, KeepAlive: -1}
	c, err := d.Dial(t.addr.Network, t.addr.Address)
	if err != nil {
		t.sent.Add(1)
		t.failed[classOf(err, false)].Add(1)
		t.example("%s: %v", t.prefix, err)
		pause(10 * time.Millisecond)
		return false
	}
	t.connects.Add(1)
	t.conn, t.br = c.(*net.TCPConn), bufio.NewReaderSize(c, 16<<10)
	t.asked, t.pid, t.generation = false, 0, 0
	return true
}

func (t *talker) hangUp() {
	if t.conn != nil {
		_ = t.conn.Close()
		t.conn = nil
	}
}

// rest pauses, and sees what the server does to a connection meanwhile.
func (t *talker) rest() {
	d := rand.N(t.pause)
	if t.conn == nil {
		pause(d)
		return
	}
	_ = t.conn.SetReadDeadline(time.Now().Add(d))
	b, err := t.br.Peek(1)
	switch {
	case err == nil:
		t.unasked.Add(1)
		t.example("%s: the server says %q and nothing was asked", t.conn.LocalAddr(), b)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return
	default:
		t.reconnects.Add(1)
		t.example("%s, answered by %d: idle: %v", t.conn.LocalAddr(), t.pid, err)
	}
	t.hangUp()
}

func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	<-timer.C
}

// carryOut says everything, then hears the answers, in order.
func (d *dialog) carryOut() {
	t := d.talker
	t.sent.Add(int64(len(d.questions)) - int64(d.repeats))
	_ = t.conn.SetDeadline(time.Now().Add(patience + d.takes))
	writeErr := d.say()
	for i, q := range d.questions {
		told, err := t.hear(q)
		if err == nil && d.end != stay && i == len(d.questions)-1 {
			err = d.part()
		}
		if err != nil {
			rest := d.questions[i:]
			t.failed[classOf(err, false)].Add(int64(len(rest)))
			t.example("%s (%d of %d) on %s, answered by %d, generation %d: %v; write: %v\n    said %s",
				q.id, i+1, len(d.questions), t.conn.LocalAddr(), t.pid, t.generation, err, writeErr, d)
			t.hangUp()
			return
		}
		t.answered.Add(1)
		if told {
			t.told.Add(1)
			t.backlog = d.questions[i+1:]
			t.repeated.Add(int64(len(t.backlog)))
			t.hangUp()
			return
		}
	}
	if len(d.questions) == 0 && d.end != stay {
		_ = d.part()
	}
	if d.end != stay {
		t.hangUp()
		return
	}
	if n := t.br.Buffered(); n > 0 || writeErr != nil {
		t.unasked.Add(1)
		t.example("%s: %d bytes follow the last answer; write: %v", t.conn.LocalAddr(), n, writeErr)
		t.hangUp()
	}
}

// say writes the steps. What follows an error is not written: an answer that tells
// to close may have overtaken it, and lies ready to be read.
func (d *dialog) say() error {
	for _, s := range d.steps {
		pause(s.pause)
		if s.await {
			if err := d.awaitContinue(); err != nil {
				return err
			}
		}
		if _, err := d.talker.conn.Write(s.bytes); err != nil {
			return err
		}
	}
	if d.end == shutAtOnce {
		return d.talker.conn.CloseWrite()
	}
	return nil
}

// awaitContinue leaves any other answer to be read as such.
func (d *dialog) awaitContinue() error {
	begin, err := d.talker.br.Peek(len(interim))
	if err != nil {
		return err
	}
	if string(begin) != interim {
		return fmt.Errorf("%w: answered %q before the body", errCorrupt, begin)
	}
	d.questions[0].expects = false
	return skipContinue(d.talker.br)
}

const interim = "HTTP/1.1 100"

func skipContinue(br *bufio.Reader) error {
	const want = interim + " Continue\r\n\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(br, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%w: interim answer is %q", errCorrupt, got)
	}
	return nil
}

// part ends a connection in the way the dialog wants it.
func (d *dialog) part() error {
	c := d.talker.conn
	pause(d.endPause)
	switch d.end {
	case shutIdle:
		if err := c.CloseWrite(); err != nil {
			return err
		}
	case depart:
		return nil // hangUp closes
	case reset:
		return c.SetLinger(0)
	}
	switch b, err := d.talker.br.Peek(1); {
	case err == nil:
		return fmt.Errorf("%w: %q after the last answer", errCorrupt, b)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("no end after the half-close: %w", err)
	}
	return nil
}

var (
	errCorrupt = errors.New("corrupt")
	errStatus  = errors.New("status")
)

// hear reads one answer and compares it with what the request must be answered.
func (t *talker) hear(q *question) (told bool, err error) {
	begin, err := t.br.Peek(len(interim))
	if err == nil && q.expects && string(begin) == interim {
		if err := skipContinue(t.br); err != nil {
			return false, err
		}
	} else if err != nil && len(begin) == 0 {
		return false, &lostError{classOf(err, false), err}
	}
	resp, err := http.ReadResponse(t.br, &http.Request{Method: q.method})
	if err != nil {
		return false, &lostError{classOf(err, true), err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return false, &lostError{classOf(err, true), err}
	}
	id, pid := resp.Header["X-Request-Id"], number(resp, "X-Pid")
	generation := number(resp, "X-Generation")
	switch {
	case resp.StatusCode != http.StatusOK:
		return false, fmt.Errorf("%w %d: %.80q", errStatus, resp.StatusCode, body)
	case len(id) != 1 || id[0] != q.id:
		return false, fmt.Errorf("%w: X-Request-Id is %q", errCorrupt, id)
	case resp.Proto != q.proto || resp.ContentLength != int64(len(q.want)):
		return false, fmt.Errorf("%w: %s, Content-Length %d, %d expected", errCorrupt, resp.Proto, resp.ContentLength, len(q.want))
	case !bytes.Equal(body, q.want):
		return false, fmt.Errorf("%w: body is %.80q, %.80q expected", errCorrupt, body, q.want)
	case pid == 0 || generation < t.generation:
		return false, fmt.Errorf("%w: answered by %d, generation %d, after generation %d", errCorrupt, pid, generation, t.generation)
	}
	if t.pid != 0 && pid != t.pid {
		t.moved.Add(1)
	}
	t.asked, t.pid, t.generation = true, pid, generation
	return resp.Close, nil
}

func number(resp *http.Response, header string) int {
	n, _ := strconv.Atoi(resp.Header.Get(header))
	return n
}

// lostError is an error of the connection that has been given its class.
type lostError struct {
	class load.Class
	err   error
}

func (e *lostError) Error() string { return e.class.String() + ": " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// classOf gives an error its class; began says that bytes of the answer were read.
func classOf(err error, began bool) load.Class {
	var lost *lostError
	eof := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	gone := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case errors.As(err, &lost):
		return lost.class
	case errors.Is(err, errCorrupt):
		return load.Corrupt
	case errors.Is(err, errStatus):
		return load.Status
	case errors.Is(err, os.ErrDeadlineExceeded):
		return load.Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return load.Refused
	case began && (eof || gone):
		return load.Truncated
	case began:
		return load.Corrupt // it does not parse
	case gone:
		return load.Reset
	case eof:
		return load.EOF
	}
	return load.Other
}
