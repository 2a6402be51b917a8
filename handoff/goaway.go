package handoff

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

const (
	maxStream = 1<<31 - 1

	// goAwayGrace is how long nothing must have arrived before the final GOAWAY. A
	// client may have decided to open a stream just before it read the first
	// GOAWAY, and write it after it has acknowledged the PING: Go's own client adds
	// the stream under one lock and writes it under another (http2:
	// clientStream.writeRequest). It is also the time that a connection without a
	// stream is given for its first.
	goAwayGrace = time.Second
	// goAwayLull replaces it when the time for silent connections is over.
	goAwayLull = 100 * time.Millisecond
)

// pingMark is the data of our PINGs. http2 ignores an acknowledgement that is not
// of its own PING (http2: serverConn.processPing).
var pingMark = [pingData]byte([]byte("holdfast"))

// farewell is where the shutdown of an HTTP/2 connection stands.
//
// RFC 9113 section 6.8: a server that shuts down "SHOULD send an initial GOAWAY
// frame with the last stream identifier set to 2^31-1 and a NO_ERROR code", and
// "after allowing time for any in-flight stream creation (at least one round-trip
// time)" one that names the last stream. The PING behind it shows that the round
// trip has been made.
//
//	serving ──GOAWAY(2³¹-1), PING──▶ told ──GOAWAY(last), PING──▶ final ──ACK──▶ over
//	   └────────────── http2 sends GOAWAY itself ──────────────▶ yielded
type farewell int

const (
	serving farewell = iota
	told             // the first GOAWAY is out or due: every stream is still served
	final            // the final GOAWAY is out or due: http2 is given nothing more
	over             // the connection ends with the next read
	yielded          // http2 itself ends the connection
)

// step moves the farewell on if it is time.
func (c *h2Conn) step(now time.Time, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.farewell {
	case serving:
		// A client that has just connected has something to ask: it is told with its
		// first stream (see received), or it would have connected for nothing.
		if c.last > 0 || late || now.Sub(c.began) >= goAwayGrace {
			c.tell(now)
		}
	case told:
		pause := goAwayGrace
		if late {
			pause = goAwayLull
		}
		if (c.unacked == 0 && c.due == nil || late) && c.quiet(now, pause) {
			c.turn(final, now)
			c.due = append(c.due, goAway(c.last)...)
		}
	case final:
		// The acknowledgement shows that all responses have arrived, too. A client
		// that is slow to read them has until the window ends.
		if late && now.Sub(c.since) >= goAwayGrace {
			c.turn(over, now)
			_ = c.SetReadDeadline(past)
		}
	}
	if c.due != nil && !c.delivering && !c.ended {
		c.delivering = true
		c.deliveries.Go(c.deliver)
	}
}

func (c *h2Conn) tell(now time.Time) {
	c.turn(told, now)
	c.due = goAway(maxStream)
}

func (c *h2Conn) turn(to farewell, now time.Time) { c.farewell, c.since = to, now }

// quiet tells whether no stream is open and no byte has arrived for a while.
func (c *h2Conn) quiet(now time.Time, pause time.Duration) bool {
	if c.busy || c.block || !c.in.between() || now.Sub(c.heard) < pause || now.Sub(c.since) < pause {
		return false
	}
	t := tracked(c.Conn)
	return t == nil || !unreadBytes(t.socket)
}

const (
	goAwayData = 8 // last stream, error code: RFC 9113 section 6.8
	goAwaySize = frameHeader + goAwayData + frameHeader + pingData
)

// goAway encodes GOAWAY with NO_ERROR and our PING.
func goAway(last uint32) []byte {
	b := make([]byte, 0, goAwaySize)
	b = append(b, 0, 0, goAwayData, byte(http2.FrameGoAway), 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	b = binary.BigEndian.AppendUint32(b, uint32(http2.ErrCodeNo))
	b = append(b, 0, 0, pingData, byte(http2.FramePing), 0, 0, 0, 0, 0)
	return append(b, pingMark[:]...)
}
