package handoff

import (
	"crypto/tls"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// h2Conn is an HTTP/2 connection on its way between crypto/tls and http2. It
// follows the frames of both directions, to put frames of its own between those of
// http2 and to see what the client has understood.
type h2Conn struct {
	*tls.Conn // http2 finds ConnectionState in it
	m         *multiplexer
	began     time.Time

	wmu   sync.Mutex // held while writing, guards what follows
	out   frames
	first bool // http2's SETTINGS are out; nothing may precede them (RFC 9113 section 3.4)

	deliveries sync.WaitGroup

	mu         sync.Mutex // guards what follows; taken after wmu
	in         frames     // moved only by the reader
	block      bool       // a field block goes on in CONTINUATION
	last       uint32     // highest stream that http2 was given
	busy       bool       // a stream is open
	heard      time.Time  // when bytes last arrived or the last stream ended
	farewell   farewell
	since      time.Time // of the farewell's value
	due        []byte    // frames to write at the next boundary
	unacked    int       // our PINGs
	delivering bool
	ended      bool
}

func newH2Conn(m *multiplexer, tc *tls.Conn) *h2Conn {
	return &h2Conn{Conn: tc, m: m, began: time.Now(), in: frames{preface: len(http2.ClientPreface)}}
}

// Read gives http2 what arrives, and after the final GOAWAY the end only.
func (c *h2Conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		switch c.received(p[:n]) {
		case over:
			if t := tracked(c.Conn); t != nil {
				t.ends(fateRetired)
			}
			return 0, io.EOF
		case final:
			if err != nil {
				return 0, err
			}
		default:
			return n, err
		}
	}
}

// received looks at what the client sent. The bytes are for http2 unless it
// returns final or over: RFC 9113 section 6.8 lets the sender of GOAWAY discard
// frames of streams above the last one, and others there are not.
func (c *h2Conn) received(p []byte) farewell {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.farewell
	if len(p) > 0 && c.m.leaving.Load() {
		c.heard = time.Now()
	}
	for len(p) > 0 {
		n, ended := c.in.next(p)
		p = p[n:]
		if !ended {
			continue
		}
		switch c.in.kind() {
		case http2.FrameHeaders:
			c.block = !c.in.has(http2.FlagHeadersEndHeaders)
			if was != final {
				c.last = max(c.last, c.in.stream())
			}
			if was == serving && c.m.leaving.Load() {
				c.tell(c.heard)
				was = told
			}
		case http2.FrameContinuation:
			c.block = !c.in.has(http2.FlagContinuationEndHeaders)
		case http2.FramePing:
			if c.unacked > 0 && c.in.isAck(pingMark) {
				c.unacked--
				if c.farewell == final && c.unacked == 0 && c.due == nil {
					c.turn(over, c.heard)
				}
			}
		}
	}
	return c.farewell
}

// Write writes frames of http2, and ours as soon as one of those has ended.
func (c *h2Conn) Write(p []byte) (int, error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	written := 0
	for len(p) > 0 {
		if err := c.writeDue(); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[:c.follow(p)])
		written += n
		if err != nil {
			return written, err
		}
		p = p[n:]
	}
	return written, c.writeDue()
}

// follow tells how much of p can be written at once: all of it, or up to a
// boundary if something is due there. The caller holds wmu.
func (c *h2Conn) follow(p []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := 0
	for done < len(p) {
		n, ended := c.out.next(p[done:])
		done += n
		if !ended {
			continue
		}
		c.first = true
		if c.out.kind() == http2.FrameGoAway && c.farewell < final {
			// An error, its idle timeout, or a "Connection: close". The first one of ours
			// must not follow: the last stream never rises (RFC 9113 section 6.8).
			c.turn(yielded, time.Now())
			c.due = nil
		}
		if c.due != nil {
			break
		}
	}
	return done
}

// writeDue writes what is due, if http2 is between two frames. The caller holds wmu.
func (c *h2Conn) writeDue() error {
	if !c.first || !c.out.between() {
		return nil
	}
	c.mu.Lock()
	due := c.due
	c.due = nil
	if due != nil {
		c.unacked += len(due) / goAwaySize
	}
	c.mu.Unlock()
	if due == nil {
		return nil
	}
	_, err := c.Conn.Write(due)
	return err
}

// deliver writes what is due although http2 has nothing to write. It can wait for a
// client that does not read, until the connection is closed. In the middle of a
// frame the writer of that frame will do it.
func (c *h2Conn) deliver() {
	c.wmu.Lock()
	_ = c.writeDue() // http2 meets the same error
	c.wmu.Unlock()
	c.mu.Lock()
	c.delivering = false
	c.mu.Unlock()
}

// setState follows http2's view: active while a stream is open.
func (c *h2Conn) setState(st http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = st == http.StateActive
	c.heard = time.Now()
}

// end closes the connection and waits until nothing is written any more.
func (c *h2Conn) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	_ = c.Close()
	c.deliveries.Wait()
}
