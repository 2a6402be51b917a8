package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// ProtocolVersions are the versions of the link's messages that this build
// speaks, the best one first.
var ProtocolVersions = []int{1}

// MessageType names a message on the link.
type MessageType string

// The messages of protocol version 1. A receiver ignores types that it does not
// know.
const (
	// Hello is the first message in each direction; it carries Hello fields.
	Hello MessageType = "hello"
	// Committed tells the old process that the new one serves, owns the PID file
	// and has told the service manager: the old one may go.
	Committed MessageType = "committed"
	// Failed tells the old process why the new one is about to exit.
	Failed MessageType = "failed"
	// Released tells the new process that the old one has ended its exclusive work.
	Released MessageType = "released"
)

// Message is one datagram on the link: JSON, so that a field can be added
// without a new version. At most maxMessage bytes.
type Message struct {
	Type       MessageType `json:"type"`
	Versions   []int       `json:"versions,omitempty"`   // hello
	Build      string      `json:"build,omitempty"`      // hello
	Generation int         `json:"generation,omitempty"` // hello
	PID        int         `json:"pid,omitempty"`        // hello
	Reason     string      `json:"reason,omitempty"`     // failed: one line for a person
}

// Speaks tells whether a peer that sent this hello shares a version with us.
func (m Message) Speaks() bool {
	return slices.ContainsFunc(m.Versions, func(v int) bool { return slices.Contains(ProtocolVersions, v) })
}

const (
	maxMessage = 16 << 10
	// maxReason leaves room for the rest, and for JSON's escapes (six bytes for one).
	maxReason = 2 << 10
)

// decodeMessage reads one datagram.
func decodeMessage(b []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("handoff: malformed message from the peer: %w", err)
	}
	if m.Type == "" {
		return Message{}, errors.New("handoff: malformed message from the peer: no type")
	}
	return m, nil
}

// Link is one end of the socketpair between the old and the new process. Its
// methods may be called from several goroutines.
type Link struct {
	conn *net.UnixConn
	once sync.Once
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
func (l *Link) Send(m Message) error {
	m.Reason = m.Reason[:min(len(m.Reason), maxReason)]
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("handoff: send %s: %w", m.Type, err)
	}
	if _, err := l.conn.Write(b); err != nil {
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
	buf := make([]byte, maxMessage+1)
	for reset := false; ; {
		n, err := l.conn.Read(buf)
		switch {
		case err != nil && isReset(err) && !reset:
			// The reset comes before what the peer had still queued: read on.
			reset = true
			continue
		case err != nil:
			return Message{}, err
		case n == 0: // a datagram socket's end of file
			return Message{}, io.EOF
		case n > maxMessage:
			return Message{}, fmt.Errorf("handoff: message from the peer exceeds %d bytes", maxMessage)
		}
		return decodeMessage(buf[:n])
	}
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
