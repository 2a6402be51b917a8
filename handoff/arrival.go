package handoff

import (
	"time"
)

// arrival is what a connection that came from another process still has of its
// life there, until its first message has begun. net/http takes it for a new one.
type arrival struct {
	prefix []byte    // bytes of the next message that were read over there
	until  time.Time // the read deadline that was in force there; zero: none
	blank  int       // how many CR and LF may still precede the message
	began  time.Time // when it came
}

// maxBlank is how many bytes of empty lines net/http skips before a request that
// follows a POST (RFC 9112 section 2.2; net/http: conn.readRequest). It does so only
// if it has seen the POST itself, so for a connection that has moved we do.
const maxBlank = 4

// receive reads from the socket. For an arrival it puts the prefix before the
// first bytes and drops empty lines; n is 0 without an error when that was all there
// was. The prefix is held back until more comes, so that the connection stays at
// its boundary and can move again. guarded tells that it can move during the call;
// n is 0 without an error in that case too.
func (c *Conn) receive(p []byte, a *arrival, guarded bool) (int, error) {
	read := c.socket.Read
	if guarded {
		read = c.read
	}
	if a == nil {
		return read(p)
	}
	k := len(a.prefix)
	if k >= len(p) { // the owner reads byte by byte
		c.mu.Lock()
		defer c.mu.Unlock()
		if guarded && c.taken() {
			return 0, nil
		}
		c.parked = false
		n := copy(p, a.prefix)
		a.prefix = a.prefix[n:]
		return n, nil
	}
	n, err := read(p[k:])
	if n == 0 {
		return 0, err // with part of a message held: the client has given up
	}
	copy(p, a.prefix)
	n += k
	blank := 0
	for blank < n && blank < a.blank && (p[blank] == '\r' || p[blank] == '\n') {
		blank++
	}
	n = copy(p, p[blank:n])
	c.mu.Lock()
	a.prefix = nil
	a.blank -= blank
	c.mu.Unlock()
	if n == 0 {
		return 0, nil
	}
	return n, err
}

// settleIn ends the arrival: the first bytes of a message are there. net/http has
// set its deadlines when the connection came; they count from now, as those of a
// request on a connection that it has known. The caller holds mu.
func (c *Conn) settleIn() {
	if c.arrival == nil {
		return
	}
	if len(c.arrival.prefix) > 0 {
		return // handed out byte by byte
	}
	c.late = time.Since(c.arrival.began)
	c.arrival = nil
	if !c.wanted.IsZero() {
		c.wanted = c.wanted.Add(c.late)
	}
	if !c.kicked && !c.transit {
		_ = c.socket.SetReadDeadline(c.wanted)
	}
}
