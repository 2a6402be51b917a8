package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Link is one end of the socketpair between the old and the new process. Its
// methods may be called from several goroutines.
type Link struct {
	conn *net.UnixConn
	once sync.Once
	// offers numbers the messages of every sender on this link, so that a late
	// acknowledgement cannot be taken for another's.
	offers atomic.Uint64

	// Receive's own.
	buf [maxMessage + 1]byte
	oob [64 + 4*maxFiles]byte // a header and the descriptors (cmsg(3))
}

// OpenLink makes a link of an inherited descriptor. It takes over f and closes it.
func OpenLink(f *os.File) (*Link, error) {
	defer func() { _ = f.Close() }() // net.FileConn has a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("handoff: open link: %w", err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("handoff: open link: not a Unix socket"), c.Close())
	}
	return &Link{conn: uc}, nil
}

// sendTimeout bounds a send to a peer that does not read. A few messages of the
// size of ours always fit into the socket's buffer.
const sendTimeout = 5 * time.Second

// Send sends one message. An error means that the peer is gone or stalled.
func (l *Link) Send(m Message) error { return l.send(m, nil) }

// send sends a message with descriptors, which stay the caller's.
func (l *Link) send(m Message, fds []int) error {
	m.Reason = m.Reason[:min(len(m.Reason), maxReason)]
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("handoff: send %s: %d bytes: %w", m.Type, len(b), unix.EMSGSIZE)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("handoff: send %s: %w", m.Type, err)
	}
	if _, _, err := l.conn.WriteMsgUnix(b, oob, nil); err != nil {
		return fmt.Errorf("handoff: send %s: %w", m.Type, err)
	}
	return nil
}

// Receive waits for the next message. io.EOF means that the peer is gone, or has
// closed its end; Close ends the wait with net.ErrClosed. A timeout of 0 is no
// bound: then the peer's life is, and the owner's Close. At most one goroutine
// receives at a time.
func (l *Link) Receive(timeout time.Duration) (Message, error) {
	deadline := time.Time{}
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if err := l.conn.SetReadDeadline(deadline); err != nil {
		return Message{}, fmt.Errorf("handoff: receive: %w", err)
	}
	for reset := false; ; {
		n, oobn, flags, _, err := l.conn.ReadMsgUnix(l.buf[:], l.oob[:])
		files, ferr := rights(l.oob[:oobn])
		switch {
		case err != nil && isReset(err) && !reset:
			// The reset comes before what the peer had still queued: read on.
			reset = true
			continue
		case err != nil:
			return Message{}, err
		case n == 0: // a datagram socket's end of file, or an empty datagram
			(&Message{files: files}).discard()
			return Message{}, io.EOF
		case ferr != nil:
			return Message{}, ferr
		}
		m := Message{}
		if n > maxMessage {
			err = fmt.Errorf("%w: more than %d bytes", ErrMalformed, maxMessage)
		} else {
			m, err = decodeMessage(l.buf[:n])
		}
		m.files, m.short = files, flags&unix.MSG_CTRUNC != 0
		if err != nil || (m.Type != Offer && m.Type != StateBlob && m.Type != Metrics) {
			m.discard()
		}
		return m, err
	}
}

// rights takes the descriptors out of what came beside a message. They are
// close-on-exec (net sets MSG_CMSG_CLOEXEC).
func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // of another kind: none was asked for
		}
		all = append(all, fds...)
	}
	return all, nil
}

// Finish is for the end of a peer that others hold a descriptor of, so that its
// death alone is no end of the file: Receive returns what is queued, and then
// io.EOF.
func (l *Link) Finish() error { return l.conn.CloseRead() }

// Close closes this end.
func (l *Link) Close() error {
	var err error
	l.once.Do(func() { err = l.conn.Close() })
	return err
}

// Purge throws away what is queued in an end of a link that nobody reads any more,
// with the descriptors in it: each of them keeps its connection open, whoever else
// has closed it. f stays the caller's.
func Purge(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("handoff: purge link: %w", err)
	}
	var rerr error
	err = rc.Control(func(fd uintptr) {
		var b [1]byte
		for {
			// Without room for descriptors the kernel closes them (unix(7)).
			n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_DONTWAIT)
			if rerr = err; n == 0 || err != nil && !errors.Is(err, unix.EINTR) {
				return // 0: the other end is closed
			}
		}
	})
	if errors.Is(rerr, unix.EAGAIN) {
		rerr = nil
	}
	if err = errors.Join(err, rerr); err != nil {
		return fmt.Errorf("handoff: purge link: %w", err)
	}
	return nil
}
