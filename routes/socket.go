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

	"github.com/holdfast-go/holdfast/handoff"
)

const (
	socketMessageLimit = 1 << 20
	// socketWriteWait bounds one write, so that a peer that does not read cannot
	// hold the handler, and with it the drain.
	socketWriteWait = 10 * time.Second

	// Of the IANA registry of close codes; ws knows only those of RFC 6455.
	statusServiceRestart ws.StatusCode = 1012
	statusTryAgainLater  ws.StatusCode = 1013
)

// What ends the reading of messages when the socket was told to leave.
var (
	errLeave    = errors.New("routes: websocket is leaving")
	errLeaveCut = errors.New("routes: websocket is leaving, and its message did not arrive in time")
)

// socket is one WebSocket. One goroutine, the handler's, reads; what it does with a
// message is onMessage's business. A second one, watch, only moves the read deadline,
// under mu: into the past while the handler waits between messages, which wakes it up
// with nothing lost, and otherwise to the moment by which the message at hand must be
// complete. Whoever writes holds the write lock for a whole frame.
//
//	           first byte              message dealt with
//	between ──────────────▶ in message ──────────────▶ between
//	   │ │ leave: wake up       │ leave: finish by leaveBy
//	   │ └────────┬─────────────┘
//	   │          ▼
//	   │    Close 1012 sent ──▶ peer's Close, or closeWait ──▶ closed
//	   │
//	   └ an upgrade: frozen ──▶ moved, another process goes on
//	              ▲                │
//	              └── it is refused, and stays
type socket struct {
	conn      net.Conn
	rd        *bufio.Reader
	msg       wsutil.Reader
	closeWait time.Duration
	logPanic  func(v any)
	boundary  *handoff.Boundary // nil: it does not move

	// onMessage deals with a message, on the reading goroutine.
	onMessage func(op ws.OpCode, data []byte) error
	// beforeClose, if not nil, is called before Close 1012 is sent.
	beforeClose func()

	// writing is the write lock: who has put something in may write, and it guards
	// what follows. It is a channel because a move cannot wait for it for ever.
	writing chan struct{}
	wr      *bufio.Writer
	closing bool // a Close frame is out: RFC 6455 section 5.5.1 lets nothing follow
	moved   bool // another process writes
	frozen  bool // held by the reader, for a move

	mu      sync.Mutex // guards what follows, and the connection's read deadline
	between bool       // no byte of the next message has been read
	leaving bool
	leaveBy time.Time
	goodbye farewell
}

// farewell is the Close frame that a socket which is to leave ends with. As an error
// of onMessage it says that the message is not acceptable.
type farewell struct {
	code   ws.StatusCode
	reason string
}

func (f farewell) Error() string { return "routes: websocket closed: " + f.reason }

var serviceRestart = farewell{statusServiceRestart, "service restart"}

// newSocket takes over what the hijack returned, or the connection of another
// process, for which rw has nothing buffered; the caller closes conn. Bytes that
// net/http had already read are the first to be read here; those after them come
// from conn directly, not through net/http's reader, which takes a deadline that
// passes for a client that has gone.
func newSocket(conn net.Conn, rw *bufio.ReadWriter, limit int64, closeWait time.Duration) *socket {
	ahead, _ := rw.Peek(rw.Reader.Buffered())
	ahead = bytes.Clone(ahead)
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(ahead), conn))
	// Into the reader's own buffer, where waitForMessage looks for them.
	_, _ = rw.Peek(len(ahead))

	s := &socket{conn: conn, rd: rw.Reader, wr: rw.Writer, closeWait: closeWait, writing: make(chan struct{}, 1)}
	s.msg = wsutil.Reader{
		Source:         s.rd,
		State:          ws.StateServerSide,
		CheckUTF8:      true,
		MaxMessageSize: limit,
		OnIntermediate: s.control,
	}
	return s
}

// movable lets the socket move to another process between two messages. freeze
// returns what the function with this name needs there; it is called with the write
// lock held.
func (s *socket) movable(name string, freeze func() ([]byte, error)) {
	s.boundary = handoff.Movable(s.conn, handoff.Mover{
		Name: name,
		Freeze: func() ([]byte, error) {
			if err := s.lockFor(socketFreezeWait); err != nil {
				return nil, err
			}
			state, err := freeze()
			if err != nil {
				s.unlock()
				return nil, err
			}
			s.frozen = true
			return state, nil
		},
		// Called after a Freeze that failed, too.
		Thaw: func() {
			if s.frozen {
				s.frozen = false
				s.unlock()
			}
		},
	})
}

// serve reads until the peer closes, the connection breaks, or leave is closed; a
// nil leave never is. It returns an error only for what the log should know: that
// peers close, vanish or are told to leave is their good right. handoff.ErrMoved
// says that another process goes on.
func (s *socket) serve(leave <-chan struct{}) error {
	if leave != nil {
		var watcher sync.WaitGroup
		done := make(chan struct{})
		watcher.Go(func() { s.watch(leave, done) })
		defer watcher.Wait()
		defer close(done)
	}
	err := s.read()
	bye := s.endWatch()

	var closed wsutil.ClosedError
	var refused farewell
	switch {
	case errors.Is(err, handoff.ErrMoved):
		// The lock is ours since Freeze. Who waits for it must learn that it is no
		// use any more.
		s.moved, s.frozen = true, false
		s.unlock()
		return err
	case errors.As(err, &closed):
		return nil // the peer closed, and has been answered
	case errors.Is(err, errLeave):
		if s.beforeClose != nil {
			s.beforeClose()
		}
		if s.sendClose(bye) {
			s.awaitClose()
		}
		return nil
	case errors.As(err, &refused):
		if s.sendClose(refused) {
			s.awaitClose()
		}
		return err
	case errors.Is(err, errLeaveCut):
		s.fail(bye)
		return err
	case errors.Is(err, wsutil.ErrMessageTooLarge):
		s.fail(farewell{ws.StatusMessageTooBig, "a message has at most " + sizeOf(s.msg.MaxMessageSize)})
		return err
	case errors.Is(err, wsutil.ErrInvalidUTF8):
		s.fail(farewell{ws.StatusInvalidFramePayloadData, "a text message must be UTF-8"})
		return err
	case isProtocolError(err):
		s.fail(farewell{ws.StatusProtocolError, err.Error()})
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), connectionLost(err):
		return nil
	}
	return err
}

func (s *socket) read() error {
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
		if err := s.onMessage(head.OpCode, data); err != nil {
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

	var err error
	if s.boundary != nil && s.rd.Buffered() == 0 {
		// A leave that comes in here moves the deadline, and that ends the wait as it
		// ends a read.
		err = s.boundary.Wait()
	}
	if err == nil {
		_, err = s.rd.Peek(1)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.between = false
	if s.leaving && !errors.Is(err, handoff.ErrMoved) {
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
