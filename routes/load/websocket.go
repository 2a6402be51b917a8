package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

const (
	// maxRepeats bounds how often one message may cross a Close 1012.
	maxRepeats = 5
	// goodbyeWait bounds the wait for the answer to our Close.
	goodbyeWait = time.Second
	// serviceRestart is 1012 of the IANA registry of WebSocket close codes.
	serviceRestart = 1012
)

// errTold: the server sent Close 1012, and has been answered.
var errTold = errors.New("load: told to close")

// exchangeMessage sends one message and reads it back; in a Chat it reads what others
// say as well. A message that crosses a Close 1012 is sent again: the server has said
// that it is not going to answer it.
func (w *worker) exchangeMessage(seq int64, id string, deadline time.Time) error {
	w.msg = message(w.msg, id, w.index, seq, w.Bytes)
	for try := 0; ; try++ {
		err := w.tryMessage(id, deadline)
		if err == nil {
			return nil
		}
		w.hangUp()
		if err != errTold { //nolint:errorlint // never wrapped
			if w.posted && w.Kind == Chat {
				w.chat.unsure[string(w.msg)] = true
			}
			return err
		}
		if try == maxRepeats {
			return fail(Other, "the message crossed %d Close frames", try+1)
		}
		w.n.repeated.Add(1)
	}
}

func (w *worker) tryMessage(id string, deadline time.Time) error {
	w.posted = false
	if err := w.chat.wrong(); err != nil {
		return err
	}
	fresh := w.c == nil
	if err := w.connect(deadline); err != nil {
		return err
	}
	if fresh {
		if err := w.handshake(id); err != nil {
			return err
		}
	}
	frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(w.msg)))
	w.posted = true
	err := w.send(w.out[:0], frame)
	w.c.asked = true
	if err != nil {
		return ioFailure("write message", err, false)
	}
	for {
		head, payload, err := w.readFrame()
		if err != nil {
			return err
		}
		if head.OpCode.IsControl() {
			if err := w.control(head, payload); err != nil {
				return err
			}
			continue
		}
		if w.Kind == Chat {
			own, err := w.enter(head, payload)
			if own || err != nil {
				return err
			}
			continue
		}
		if head.OpCode != ws.OpText || !head.Fin || !bytes.Equal(payload, w.msg) {
			return fail(Corrupt, "message %s came back as %v frame of %d bytes, different at byte %d: %s",
				id, head.OpCode, len(payload), firstDifference(payload, w.msg), excerpt(payload))
		}
		return nil
	}
}

// handshake makes a WebSocket of the new connection. Its request id is the first
// message's with "-ws" behind it: it is another request in the server's log.
func (w *worker) handshake(id string) error {
	var pid, generation int
	var echoed string
	d := ws.Dialer{
		Header: ws.HandshakeHeaderHTTP(http.Header{"X-Request-Id": {id + "-ws"}, "User-Agent": {"holdfast-load"}}),
		OnHeader: func(key, value []byte) error {
			switch strings.ToLower(string(key)) {
			case "x-pid":
				pid, _ = strconv.Atoi(string(value))
			case "x-generation":
				generation, _ = strconv.Atoi(string(value))
			case "x-request-id":
				echoed = string(value)
			}
			return nil
		},
	}
	counted := &countingReader{r: w.c.br}
	br, _, err := d.Upgrade(struct {
		io.Reader
		io.Writer
	}{counted, w.c}, w.socketURL())
	var status ws.StatusError
	switch {
	case errors.As(err, &status):
		return fail(Status, "handshake: status %d", int(status))
	case err != nil && (ioClass(err, false) != Other):
		return ioFailure("handshake", err, counted.n > 0)
	case err != nil:
		return fail(Corrupt, "handshake: %w", err)
	case echoed != id+"-ws":
		return fail(Corrupt, "handshake: X-Request-Id is %q", echoed)
	}
	if br != nil { // frames came with the answer
		w.c.br = bufio.NewReader(br)
	}
	return w.answeredBy(pid, generation)
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// readFrame reads one frame, which may be as long as our own messages are. An end
// between frames is before the answer, one inside a frame truncates it.
func (w *worker) readFrame() (ws.Header, []byte, error) {
	if _, err := w.c.br.Peek(1); err != nil {
		return ws.Header{}, nil, ioFailure("read message", err, false)
	}
	head, err := ws.ReadHeader(w.c.br)
	if err != nil {
		return head, nil, ioFailure("read message", err, true)
	}
	if head.Masked || head.Rsv != 0 || head.Length > int64(len(w.msg)+maxExtra) {
		return head, nil, fail(Corrupt, "frame header %+v", head)
	}
	payload := make([]byte, head.Length)
	if _, err := io.ReadFull(w.c.br, payload); err != nil {
		return head, nil, ioFailure("read message", err, true)
	}
	return head, payload, nil
}

// control answers a control frame. After Close 1012 it returns errTold, after any
// other Close a failure: no other one is how Holdfast sends a client on.
func (w *worker) control(head ws.Header, payload []byte) error {
	var reply ws.Frame
	switch head.OpCode {
	case ws.OpPing:
		reply = ws.NewPongFrame(payload)
	case ws.OpClose:
		reply = ws.NewCloseFrame(payload[:min(2, len(payload))])
	default:
		return nil
	}
	err := ws.WriteFrame(w.c, ws.MaskFrame(reply))
	if head.OpCode == ws.OpClose {
		if len(payload) >= 2 && binary.BigEndian.Uint16(payload) == serviceRestart {
			w.n.told.Add(1)
			return errTold
		}
		return fail(EOF, "closed by the server: code and reason %s", excerpt(payload))
	}
	if err != nil {
		return ioFailure("write pong", err, false)
	}
	return nil
}

// unasked reads a frame that came while nothing was asked. It returns false if that
// is a message where none may come, which is left for the next exchange to find wrong.
func (w *worker) unasked() bool {
	first, err := w.c.br.Peek(1)
	if err != nil || w.Kind != Chat && !ws.OpCode(first[0]&0x0f).IsControl() {
		return false
	}
	w.noteConn()
	_ = w.c.SetDeadline(time.Now().Add(w.Timeout))
	head, payload, err := w.readFrame()
	switch {
	case err != nil:
	case head.OpCode.IsControl():
		err = w.control(head, payload)
	default:
		if _, w.chat.bad = w.enter(head, payload); w.chat.bad != nil {
			w.hangUp()
		}
	}
	if err == nil {
		return true
	}
	if err != errTold { //nolint:errorlint // never wrapped
		w.n.reconnects.Add(1)
		w.example(Reconnect, "", err)
	}
	w.hangUp()
	return true
}

// sayGoodbye is the client's own Close, and a short wait for its answer.
func (w *worker) sayGoodbye() {
	_ = w.c.SetDeadline(time.Now().Add(goodbyeWait))
	body := ws.NewCloseFrameBody(ws.StatusNormalClosure, "")
	if err := ws.WriteFrame(w.c, ws.MaskFrame(ws.NewCloseFrame(body))); err != nil {
		return
	}
	for {
		if head, _, err := w.readFrame(); err != nil || head.OpCode == ws.OpClose {
			return
		}
	}
}
