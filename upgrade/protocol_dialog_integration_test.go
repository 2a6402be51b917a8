//go:build integration && linux

package upgrade_test

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dialog is some requests, and how their bytes get on the wire: TCP knows no
// messages, so the pieces are the client's choice.
type dialog struct {
	talker    *talker
	questions []*question
	repeats   int // how many of them were counted before
	steps     []step
	takes     time.Duration // all pauses

	end      end
	endPause time.Duration
}

// question is one request, and what it must be answered.
type question struct {
	id, method, proto string
	head, body        []byte
	want              []byte
	expects           bool // an interim 100 may precede the answer
}

func (q *question) bytes() []byte { return slices.Concat(q.head, q.body) }

// step is bytes that are written in one piece, after a pause.
type step struct {
	pause time.Duration
	await bool // for 100 Continue, before the bytes
	bytes []byte
}

// end is what becomes of the connection after the dialog.
type end int

const (
	stay       end = iota
	shutAtOnce     // the client closes its sending side behind the last request,
	shutIdle       // or when it has the answers; either way it reads until the end
	depart         // it closes
	reset          // it resets
)

// String tells a person how the bytes were cut.
func (d *dialog) String() string {
	var b strings.Builder
	for _, s := range d.steps {
		fmt.Fprintf(&b, "%s %d, ", s.pause.Round(10*time.Microsecond), len(s.bytes))
	}
	fmt.Fprintf(&b, "end %d", d.end)
	return b.String()
}

// ask adds a request that is yet to be written. Its body is its own: whatever is cut
// off, doubled or mixed up in another one shows.
func (d *dialog) ask(method, path, proto string, body []byte, fields ...string) *question {
	t := d.talker
	q := &question{id: d.nextID(), method: method, proto: proto, body: body}
	t.seq++
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\nHost: x\r\nX-Request-Id: %s\r\n", method, path, proto, q.id)
	if body != nil {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	b.WriteString("\r\n")
	q.head = b.Bytes()
	d.questions = append(d.questions, q)
	return q
}

func (d *dialog) nextID() string { return fmt.Sprintf("%s-%d", d.talker.prefix, d.talker.seq) }

// post asks for an echo of size bytes, or more if its id needs them.
func (d *dialog) post(size int, fields ...string) *question {
	body := d.filler(size)
	q := d.ask(http.MethodPost, "/echo", "HTTP/1.1", body, fields...)
	q.want = body
	return q
}

func (d *dialog) get() *question {
	q := d.ask(http.MethodGet, "/", "HTTP/1.1", nil)
	q.want = []byte("ok")
	return q
}

// filler is the id of the next request and bytes that follow from it.
func (d *dialog) filler(size int) []byte {
	b := []byte(d.nextID() + "\n")
	h := fnv.New64a()
	_, _ = h.Write(b)
	for r := rand.NewPCG(h.Sum64(), 0); len(b) < size; {
		b = append(b, byte(r.Uint64()))
	}
	return b
}

func (d *dialog) write(after time.Duration, b []byte) {
	d.steps = append(d.steps, step{pause: after, bytes: b})
	d.takes += after
}

// writeCut writes b in pieces, with a pause up to longest at each cut.
func (d *dialog) writeCut(b []byte, longest time.Duration, cuts ...int) {
	cuts = append(cuts, len(b))
	slices.Sort(cuts)
	from, after := 0, time.Duration(0)
	for _, to := range cuts {
		if to <= from || to > len(b) {
			continue
		}
		d.write(after, b[from:to])
		from, after = to, rand.N(longest)
	}
}

// repeat asks again, on a new connection, what was pipelined behind an answer that
// told to close (RFC 9112 section 9.3.2).
func (d *dialog) repeat() {
	d.questions, d.talker.backlog = d.talker.backlog, nil
	d.repeats = len(d.questions)
	var b []byte
	for _, q := range d.questions {
		b = append(b, q.bytes()...)
	}
	d.write(0, b)
}

func oneOf[T any](of ...T) T { return of[rand.IntN(len(of))] }

// pipeline sends several requests at once: those behind the first lie in the
// server's buffer, in full, when it could move.
func pipeline(d *dialog) {
	var b []byte
	for range 2 + rand.IntN(7) {
		b = append(b, d.post(rand.IntN(300)).bytes()...)
	}
	d.write(0, b)
}

// split cuts pipelined requests where the server, at a boundary, has a few bytes or a
// line of the next request.
func split(d *dialog) {
	var b []byte
	var cuts []int
	for range 2 + rand.IntN(4) {
		q := d.post(rand.IntN(200)).bytes()
		line := bytes.IndexByte(q, '\n') + 1
		cuts = append(cuts, len(b)+oneOf(0, 1, 2, 3, 4, line-1, line, rand.IntN(len(q))))
		b = append(b, q...)
	}
	d.writeCut(b, 15*time.Millisecond, cuts...)
}

// trickle writes one byte at a time, and waits longer at one place where the server
// has just decided what to wait for.
func trickle(d *dialog) {
	q := oneOf(d.get, func() *question { return d.post(0) })()
	b := q.bytes()
	line := bytes.IndexByte(b, '\n') + 1
	long := oneOf(1, 2, 3, 4, line-1, line, len(q.head)-1, len(q.head), len(b)-1)
	for i := range b {
		after := rand.N(200 * time.Microsecond)
		switch i {
		case 0:
			after = 0
		case long:
			after = rand.N(40 * time.Millisecond)
		}
		d.write(after, b[i:i+1])
	}
}

// expect asks whether to send the body, and may not wait for the answer.
func expect(d *dialog) {
	q := d.post(rand.IntN(8<<10), "Expect: 100-continue")
	q.expects = true
	d.writeCut(q.head, 10*time.Millisecond, rand.IntN(len(q.head)))
	if oneOf(true, false) {
		d.steps = append(d.steps, step{await: true})
	}
	first := len(d.steps)
	d.writeCut(q.body, 10*time.Millisecond, rand.IntN(len(q.body)))
	d.steps[first].pause = rand.N(10 * time.Millisecond)
	d.takes += d.steps[first].pause
}

// upload sends chunks and trailers, cut anywhere, and sometimes a request right
// behind: the last line of the trailers is the boundary then, in the middle of a
// segment.
func upload(d *dialog) {
	q := d.ask(http.MethodPost, "/upload", "HTTP/1.1", nil,
		"Transfer-Encoding: chunked", "Trailer: X-Of, X-Sum")
	var all, b []byte
	for range 1 + rand.IntN(5) {
		chunk := d.filler(1 + rand.IntN(3000))
		all = append(all, chunk...)
		b = append(strconv.AppendInt(b, int64(len(chunk)), 16), "\r\n"...)
		b = append(append(b, chunk...), "\r\n"...)
	}
	sum := crc32.ChecksumIEEE(all)
	q.want = fmt.Appendf(nil, `{"bytes":%d,"crc32":%d}`, len(all), sum)
	zero := len(q.head) + len(b)
	q.body = fmt.Appendf(b, "0\r\nX-Of: %s\r\nX-Sum: %d\r\n\r\n", q.id, sum)
	b = q.bytes()
	end := len(b)
	if oneOf(true, false) {
		b = append(b, d.post(0).bytes()...)
	}
	cuts := []int{zero + rand.IntN(5), zero + rand.IntN(end-zero), end - 2 + rand.IntN(6)}
	for range 4 {
		cuts = append(cuts, rand.IntN(zero))
	}
	d.writeCut(b, 6*time.Millisecond, cuts...)
}

// keepAlive speaks HTTP/1.0, where staying is the exception.
func keepAlive(d *dialog) {
	body := d.filler(rand.IntN(200))
	q := d.ask(http.MethodPost, "/echo", "HTTP/1.0", body, "Connection: keep-alive")
	q.want = body
	b := q.bytes()
	d.writeCut(b, 10*time.Millisecond, oneOf(0, 1, 2, 3, rand.IntN(len(b))))
}

// blankLines puts one or two CRLF before a request (RFC 9112 section 2.2). net/http
// forgives them after a POST on the same connection only, which the new process has
// not seen. They may come alone, long before the request.
func blankLines(d *dialog) {
	var b []byte
	var cuts []int
	for i := range 1 + rand.IntN(2) {
		from := len(b)
		if i > 0 || d.talker.asked {
			b = append(b, oneOf("\r\n", "\r\n\r\n")...)
		}
		at := len(b)
		b = append(b, d.post(0).bytes()...)
		cuts = append(cuts, from, oneOf(at-3, at-2, at-1, at, at, at, at+1, at+2))
	}
	d.writeCut(b, 40*time.Millisecond, cuts...)
}

// overfill makes requests of about the size of net/http's buffer of 4096 bytes, so
// that it is full before, in and behind a boundary.
func overfill(d *dialog) {
	const buffer = 4096
	var b []byte
	var cuts []int
	for range 1 + rand.IntN(3) {
		q := d.post(buffer + oneOf(rand.IntN(buffer), rand.IntN(16)))
		// Either the head or the whole ends near the end of a buffer.
		end := len(b) + len(q.head) + oneOf(0, len(q.body))
		pad := 2*buffer - end%buffer + rand.IntN(16) - 8
		q.pad(oneOf(0, pad, pad%buffer))
		from := len(b)
		b = append(b, q.bytes()...)
		cuts = append(cuts, oneOf(0, from+rand.IntN(4)), oneOf(0, from+len(q.head)-rand.IntN(5)))
	}
	cuts = append(cuts, oneOf(0, buffer-4+rand.IntN(8)), oneOf(0, rand.IntN(len(b))))
	d.writeCut(b, 10*time.Millisecond, cuts...)
}

// pad makes the head longer by n bytes, if that is enough for a field.
func (q *question) pad(n int) {
	if n -= len("X-Pad: \r\n"); n > 0 {
		q.head = fmt.Appendf(q.head[:len(q.head)-2], "X-Pad: %s\r\n\r\n", strings.Repeat("p", n))
	}
}

// halfClose closes the sending side behind a request or later, and reads to the end.
func halfClose(d *dialog) {
	d.write(0, d.post(rand.IntN(200)).bytes())
	d.end = oneOf(stay, stay, shutAtOnce, shutIdle)
	if d.end == shutIdle {
		d.endPause = rand.N(30 * time.Millisecond)
	}
}

// leave goes while nothing is under way: a new connection, or an idle one, or one with
// the first bytes of a request that will never come.
func leave(d *dialog) {
	if oneOf(true, true, false) {
		d.write(0, d.post(0).bytes())
	}
	if len(d.questions) > 0 && oneOf(true, false, false) {
		d.write(rand.N(5*time.Millisecond), []byte("POS")[:1+rand.IntN(3)])
	}
	d.end = oneOf(depart, reset)
	d.endPause = rand.N(25 * time.Millisecond)
}
