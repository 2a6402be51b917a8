package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Kind is what a request of a workload asks for.
type Kind int

// The kinds, and what an answer must be to be right.
const (
	Hello     Kind = iota + 1 // GET /: "ok"
	Echo                      // POST /echo: the body that was sent
	Slow                      // GET /slow?ms=…: "slow"
	Stream                    // GET /stream?ms=…: chunk 0, chunk 1, … one per 50 ms begun, end
	Upload                    // POST /upload: the number of bytes and their CRC-32
	WebSocket                 // GET /ws, then numbered messages: each comes back, in order
	Chat                      // GET /chat, then messages: each becomes one entry of the room, no entry is missed
)

var kindNames = [...]string{Hello: "hello", Echo: "echo", Slow: "slow", Stream: "stream", Upload: "upload", WebSocket: "websocket", Chat: "chat"}

// socket tells whether its requests are messages of a WebSocket.
func (k Kind) socket() bool { return k == WebSocket || k == Chat }

// String is the kind's name, "echo" for instance.
func (k Kind) String() string {
	if k < Hello || k > Chat {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

// Addr is where a server listens.
type Addr struct {
	Network string      // "tcp", "unix"
	Address string      // host:port, or the socket's path
	TLS     *tls.Config // nil: none. The client speaks HTTP/1.1 whatever NextProtos says.
}

// Workload is one sort of load: what is asked, of whom, and by how many workers.
// Each worker has one connection and one request at a time.
type Workload struct {
	Name string // in the Tally, unique in a Runner; default the kind, with "new" if NewConn
	Kind Kind
	Addr Addr

	Conns   int           // workers; default 1
	NewConn bool          // a new connection for each request; not for WebSocket and Chat
	Pause   time.Duration // longest pause before a request; each is random; default none, 20 ms for Chat

	// RoomSize is how many workers of a Chat share a room, default 4, and Push how often
	// the server says something there by itself, 20 ms to a minute; default 0, never.
	// What a worker sees of the room is checked while it pauses, too.
	RoomSize int
	Push     time.Duration

	// Bytes is the size of the body or message: default 128 for Echo, WebSocket and Chat,
	// 256 KiB for Upload; a Chat takes 1024. It is at least what the request's id needs. Every second
	// upload is chunked, the others declare their length.
	Bytes int
	// Duration is how long the request is to take: ms for Slow (default 100 ms) and
	// Stream (default 500 ms), and for Upload the time over which its pieces are
	// spread (default 0, as fast as they go).
	Duration time.Duration
	// Split, if not 0, sends each request in two pieces with a random pause up to
	// Split between them, somewhere in the head or the body. An upload is split in
	// its head.
	Split time.Duration

	// Timeout bounds one request from the dial to the last byte, Duration and Split
	// not included; default 10 s.
	Timeout time.Duration
	// MaxRequests ends the workload after so many requests of all its workers;
	// default 0, no bound.
	MaxRequests int64
}

// withDefaults fills in what was left out.
func (w Workload) withDefaults() Workload {
	if w.Name == "" {
		w.Name = w.Kind.String()
		if w.NewConn {
			w.Name += " new"
		}
	}
	if w.Conns == 0 {
		w.Conns = 1
	}
	if w.Timeout == 0 {
		w.Timeout = 10 * time.Second
	}
	if w.Bytes == 0 {
		w.Bytes = 128
		if w.Kind == Upload {
			w.Bytes = 256 << 10
		}
	}
	if w.Kind == Chat {
		if w.RoomSize == 0 {
			w.RoomSize = 4
		}
		if w.Pause == 0 {
			// A room has so many entries a second as all its members together can write,
			// and forgets all but the last 1000.
			w.Pause = 20 * time.Millisecond
		}
	}
	if w.Duration == 0 {
		switch w.Kind {
		case Slow:
			w.Duration = 100 * time.Millisecond
		case Stream:
			w.Duration = 500 * time.Millisecond
		}
	}
	return w
}

func (w Workload) check() error {
	switch {
	case w.Kind < Hello || w.Kind > Chat:
		return errors.New("has no kind")
	case w.Addr.Network == "" || w.Addr.Address == "":
		return errors.New("has no address")
	case w.NewConn && w.Kind.socket():
		return errors.New("a WebSocket cannot have a new connection for each message")
	case w.Conns < 0, w.Bytes < 0, w.Pause < 0, w.Duration < 0, w.Split < 0, w.Timeout < 0, w.MaxRequests < 0, w.RoomSize < 0, w.Push < 0:
		return errors.New("has a negative number")
	case w.Kind == Chat && w.Bytes > maxChatText:
		return errors.New("has messages that are longer than a chat takes")
	case w.Push != 0 && (w.Kind != Chat || w.Push < 20*time.Millisecond || w.Push > time.Minute):
		return errors.New("has a push that no server would do")
	case (w.Kind == Slow || w.Kind == Stream) && w.Duration%time.Millisecond != 0:
		return errors.New("has a duration that is not in whole milliseconds")
	}
	return nil
}
