package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// streamEvery is the pace of GET /stream.
const streamEvery = 50 * time.Millisecond

// uploadPiece is how much of an upload is written at one time.
const uploadPiece = 32 << 10

// maxExtra is how much longer than expected an answer may be and still be read, so
// that an error's text is seen.
const maxExtra = 64 << 10

// exchangeHTTP sends one request and reads its answer, on w.c or a new connection.
// Afterwards w.c is the connection if it can be used again, and nil otherwise.
func (w *worker) exchangeHTTP(seq int64, id string, deadline time.Time) error {
	if err := w.connect(deadline); err != nil {
		return err
	}
	r, err := w.roundTrip(seq, id)
	if err != nil {
		w.hangUp()
		return err
	}
	if err := w.answeredBy(r.number("X-Pid"), r.number("X-Generation")); err != nil {
		w.hangUp()
		return err
	}
	if r.toldToClose() {
		w.n.told.Add(1)
		w.hangUp()
	} else if w.NewConn {
		w.hangUp()
	}
	return nil
}

func (w *worker) roundTrip(seq int64, id string) (*response, error) {
	var sum uint32
	var err error
	switch w.Kind {
	case Echo:
		w.msg = message(w.msg, id, w.index, seq, w.Bytes)
		err = w.send(w.head("POST", "/echo", id, strconv.Itoa(len(w.msg))), w.msg)
	case Slow, Stream:
		err = w.send(w.head("GET", fmt.Sprintf("/%s?ms=%d", w.Kind, w.Duration.Milliseconds()), id, ""), nil)
		w.waited += w.Duration
	case Upload:
		sum, err = w.upload(seq, id)
	default:
		err = w.send(w.head("GET", "/", id, ""), nil)
	}
	w.c.asked = true
	if err != nil {
		return nil, w.writeFailure(err)
	}
	r, err := readResponse(w.c.br, w.answer, len(w.msg)+w.streamLimit()+maxExtra)
	if err != nil {
		return nil, err
	}
	w.answer = r.body
	return r, w.check(r, id, sum)
}

// writeFailure prefers an answer that came before the request was complete, 413 for
// instance, to the error that the write met. There is no right answer then: even a
// 200 is to a request that was not received.
func (w *worker) writeFailure(err error) error {
	if r, early := readResponse(w.c.br, nil, maxExtra); early == nil {
		return fail(Status, "write request: %w; answered before that: %d %s", err, r.status, excerpt(r.body))
	}
	return ioFailure("write request", err, false)
}

// check compares the answer with what this request must be answered.
func (w *worker) check(r *response, id string, sum uint32) error {
	got, n := r.get("X-Request-Id")
	if n != 1 || got != id {
		return fail(Corrupt, "X-Request-Id is %q (%d of them), status %d", got, n, r.status)
	}
	if r.status != 200 {
		return fail(Status, "status %d: %s", r.status, excerpt(r.body))
	}
	want := w.msg
	switch w.Kind {
	case Hello:
		want = []byte("ok")
	case Slow:
		want = []byte("slow")
	case Stream:
		want = w.streamBody()
	case Upload:
		return w.checkUpload(r.body, sum)
	}
	if !bytes.Equal(r.body, want) {
		return fail(Corrupt, "body of %d bytes differs from the %d expected at byte %d: %s",
			len(r.body), len(want), firstDifference(r.body, want), excerpt(r.body))
	}
	return nil
}

// head is a request's head; contentLength "" means no body.
func (w *worker) head(method, path, id, contentLength string) []byte {
	b := append(w.out[:0], method...)
	b = append(append(append(b, ' '), path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, w.host...), "\r\nUser-Agent: holdfast-load\r\nX-Request-Id: "...)
	b = append(append(b, id...), "\r\n"...)
	if contentLength == chunked {
		b = append(b, "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"...)
	} else if contentLength != "" {
		b = append(b, "Content-Type: text/plain\r\nContent-Length: "...)
		b = append(append(b, contentLength...), "\r\n"...)
	}
	w.out = append(b, "\r\n"...)
	return w.out
}

// send writes the request in one piece, or in two if Split says so.
func (w *worker) send(head, body []byte) error {
	w.out = append(head, body...)
	p := w.out
	if w.Split > 0 {
		k := 1 + rand.IntN(len(p)-1)
		if _, err := w.c.Write(p[:k]); err != nil {
			return err
		}
		w.sleepWithin(rand.N(w.Split))
		p = p[k:]
	}
	_, err := w.c.Write(p)
	return err
}

// sleepWithin is a pause in a request, which the end of the run does not cut.
func (w *worker) sleepWithin(d time.Duration) {
	time.Sleep(d)
	w.waited += d
}

const chunked = "chunked"

// upload sends Bytes bytes in pieces, spread over Duration, and returns their sum.
func (w *worker) upload(seq int64, id string) (uint32, error) {
	framing := strconv.Itoa(w.Bytes)
	if seq%2 == 1 {
		framing = chunked
	}
	if err := w.send(w.head("POST", "/upload", id, framing), nil); err != nil {
		return 0, err
	}
	f := newFiller(w.index, seq)
	sum := crc32.NewIEEE()
	pieces := (w.Bytes + uploadPiece - 1) / uploadPiece
	for left := w.Bytes; left > 0; left -= uploadPiece {
		if cap(w.msg) < uploadPiece {
			w.msg = make([]byte, uploadPiece)
		}
		w.msg = w.msg[:min(left, uploadPiece)]
		f.fill(w.msg)
		_, _ = sum.Write(w.msg)
		out := w.msg
		if framing == chunked {
			w.out = strconv.AppendInt(w.out[:0], int64(len(w.msg)), 16)
			w.out = append(append(append(w.out, "\r\n"...), w.msg...), "\r\n"...)
			out = w.out
		}
		if _, err := w.c.Write(out); err != nil {
			return 0, err
		}
		w.sleepWithin(w.Duration / time.Duration(pieces))
	}
	if framing == chunked {
		if _, err := io.WriteString(w.c, "0\r\n\r\n"); err != nil {
			return 0, err
		}
	}
	return sum.Sum32(), nil
}

func (w *worker) checkUpload(body []byte, sum uint32) error {
	got := struct {
		Bytes *int64  `json:"bytes"`
		CRC32 *uint32 `json:"crc32"`
	}{}
	err := json.Unmarshal(body, &got)
	if err != nil || got.Bytes == nil || got.CRC32 == nil || *got.Bytes != int64(w.Bytes) || *got.CRC32 != sum {
		return fail(Corrupt, "sent %d bytes, crc32 %d, answered %s", w.Bytes, sum, excerpt(body))
	}
	return nil
}

// streamBody is what GET /stream?ms=N sends: a line for each 50 ms begun, then end.
func (w *worker) streamBody() []byte {
	if w.stream == nil {
		var b strings.Builder
		for i := range int((w.Duration + streamEvery - 1) / streamEvery) {
			fmt.Fprintf(&b, "chunk %d\n", i)
		}
		w.stream = []byte(b.String() + "end\n")
	}
	return w.stream
}

func (w *worker) streamLimit() int {
	if w.Kind != Stream {
		return 0
	}
	return len(w.streamBody())
}
