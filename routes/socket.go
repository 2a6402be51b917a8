package routes

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const (
	socketMessageLimit = 1 << 20
	// socketWriteWait bounds one write, so that a peer that does not read cannot
	// hold the handler, and with it the drain.
	socketWriteWait = 10 * time.Second

	// statusServiceRestart is 1012 of the IANA registry of close codes; ws knows
	// only the codes of RFC 6455.
	statusServiceRestart ws.StatusCode = 1012
)

// What ends the reading of messages when the socket was told to leave.
var (
	errLeave    = errors.New("routes: websocket is leaving")
	errLeaveCut = errors.New("routes: websocket is leaving, and its message did not arrive in time")
)

// socket is one echo WebSocket. One goroutine, the handler's, reads and writes. A
// second one, watch, only moves the read deadline, under mu: into the past while
// the handler waits between messages, which wakes it up with nothing lost, and
// otherwise to the moment by which the message at hand must be complete.
//
//	           first byte              message echoed
//	between ──────────────▶ in message ──────────────▶ between
//	   │ leave: wake up         │ leave: finish by leaveBy
//	   └──────────┬─────────────┘
//	              ▼
//	        Close 1012 sent ──▶ peer's Close, or closeWait ──▶ closed
type socket struct {
	conn      net.Conn
	rd        *bufio.Reader
	wr        *bufio.Writer
	msg       wsutil.Reader
	closeWait time.Duration
	logPanic  func(v any)

	mu      sync.Mutex // guards what follows, and the connection's read deadline
	between bool       // no byte of the next message has been read
	leaving bool
	leaveBy time.Time
}

// newSocket takes over what the hijack returned; the caller closes conn. Bytes that
// net/http had already read are the first to be read here; those after them come
// from conn directly, not through net/http's reader, which takes a deadline that
// passes for a client that has gone.
func newSocket(conn net.Conn, rw *bufio.ReadWriter, closeWait time.Duration) *socket {
	ahead, _ := rw.Peek(rw.Reader.Buffered())
	ahead = bytes.Clone(ahead)
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(ahead), conn))

	s := &socket{conn: conn, rd: rw.Reader, wr: rw.Writer, closeWait: closeWait}
	s.msg = wsutil.Reader{
		Source:         s.rd,
		State:          ws.StateServerSide,
		CheckUTF8:      true,
		MaxMessageSize: socketMessageLimit,
		OnIntermediate: s.control,
	}
	return s
}

// serve echoes until the peer closes, the connection breaks, or leave is closed; a
// nil leave never is. It returns an error only for what the log should know: that
// peers close, vanish or are told to leave is their good right.
func (s *socket) serve(leave <-chan struct{}) error {
	if leave != nil {
		var watcher sync.WaitGroup
		done := make(chan struct{})
		watcher.Go(func() { s.watch(leave, done) })
		defer watcher.Wait()
		defer close(done)
	}
	err := s.echo()
	s.endWatch()

	var closed wsutil.ClosedError
	switch {
	case errors.As(err, &closed):
		return nil // the peer closed, and has been answered
	case errors.Is(err, errLeave):
		if s.sendClose(statusServiceRestart, "service restart") {
			s.awaitClose()
		}
		return nil
	case errors.Is(err, errLeaveCut):
		s.fail(statusServiceRestart, "service restart")
		return err
	case errors.Is(err, wsutil.ErrMessageTooLarge):
		s.fail(ws.StatusMessageTooBig, "a message has at most 1 MiB")
		return err
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		s.fail(ws.StatusInvalidFramePayloadData, "a text message must be UTF-8")
		return err
	case isProtocolError(err):
		s.fail(ws.StatusProtocolError, err.Error())
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), connectionLost(err):
		return nil
	}
	return err
}

func (s *socket) echo() error {
	for {
		if err := s.waitForMessage(); err != nil {
			return err
		}
		head, err := s.msg.NextFrame()
		if err != nil {
			return s.readError(err)
		}
		if head.OpCode.IsControl() {
			if err := s.control(head, &s.msg); err != nil {
				return s.readError(err)
			}
			continue
		}
		// Not sized by what the frame declares: memory is given for what arrives.
		data, err := io.ReadAll(&s.msg)
		if err != nil {
			return s.readError(err)
		}
		if err := s.write(ws.NewFrame(head.OpCode, true, data)); err != nil {
			return err
		}
	}
}

// waitForMessage returns when there is something to read. Told to leave, it goes on
// as long as there are bytes that have been read already and leaveBy has not come.
func (s *socket) waitForMessage() error {
	s.mu.Lock()
	if s.leaving && (s.rd.Buffered() == 0 || !time.Now().Before(s.leaveBy)) {
		s.mu.Unlock()
		return errLeave
	}
	s.between = true
	s.mu.Unlock()

	_, err := s.rd.Peek(1)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.between = false
	if s.leaving {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errLeave
		}
		// The wake-up came too late to stop this message; it must not cut it.
		_ = s.conn.SetReadDeadline(s.leaveBy)
	}
	return err
}

// readError names the one deadline that can pass in the middle of a message.
func (s *socket) readError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errLeaveCut
	}
	return err
}

// watch is the only other goroutine of a socket, and serve waits for it.
func (s *socket) watch(leave, done <-chan struct{}) {
	// The deadline is set on whatever the server's listener has made of the
	// connection. A panic in there would end the process, and all its connections.
	defer func() {
		if v := recover(); v != nil && s.logPanic != nil {
			s.logPanic(v)
		}
	}()
	select {
	case <-leave:
		s.leave()
	case <-done:
	}
}

func (s *socket) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return
	}
	s.leaving = true
	s.leaveBy = time.Now().Add(s.closeWait)
	if s.between {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	} else {
		_ = s.conn.SetReadDeadline(s.leaveBy)
	}
}

// endWatch makes a leave that is yet to come do nothing: the socket is closing, and
// the read deadline is the closing handler's.
func (s *socket) endWatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
}

func (s *socket) write(f ws.Frame) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(socketWriteWait)); err != nil {
		return err
	}
	if err := ws.WriteFrame(s.wr, f); err != nil {
		return err
	}
	return s.wr.Flush()
}
