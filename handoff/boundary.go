package handoff

import "net/http"

// bufferSize is the size of the reader that net/http keeps for each connection
// (net/http: newBufioReader). Waiting for the next message it asks for a full
// buffer less what is already in it.
const bufferSize = 4096

// progress is what can be seen of net/http from below a connection: its states,
// its reads and its deadlines. They tell whether it is between two messages.
//
// The rule, for a Read of size bytes that begins now:
//
//   - StateNew and no byte was ever delivered: between messages, whatever the size
//     (with unencrypted HTTP/2 the first reads ask for 14 bytes, then for 4082).
//   - StateIdle, exactly one SetReadDeadline since then, and size is 4096-k with
//     k from 0 to 3: net/http is inside the Peek(4) that waits for the next request
//     (net/http: conn.serve), and the last k bytes that were delivered lie in its
//     buffer. They are the beginning of the next message.
//   - Everything else is not. Above all StateIdle with a Read of a full buffer is no
//     proof: net/http stays in StateIdle while it reads a request's head, and where
//     earlier bytes ended exactly at a line's end it asks for a full buffer in
//     mid-request. By then it has set the read deadline a second time.
//
// It is sound because the only reader is net/http's, a sequential program: between
// the call of the ConnState hook with StateIdle and the return of Peek it makes
// one SetReadDeadline and no other call. Since this is the inside of net/http,
// [SelfTest] watches the running toolchain do it.
type progress struct {
	state     http.ConnState
	deadlines int             // SetReadDeadline calls since the state was set
	delivered int64           // bytes read since the state was set
	tail      [maxPrefix]byte // the last bytes that were delivered, the newest last
	head      [maxPrefix]byte // the first ones, of which there are headed
	headed    int
}

// enter notes a new state.
func (p *progress) enter(st http.ConnState) {
	p.state, p.deadlines, p.delivered = st, 0, 0
}

// deliver notes bytes that went to the owner.
func (p *progress) deliver(b []byte) {
	p.delivered += int64(len(b))
	if p.headed < len(p.head) {
		p.headed += copy(p.head[p.headed:], b)
	}
	if len(b) >= maxPrefix {
		copy(p.tail[:], b[len(b)-maxPrefix:])
		return
	}
	copy(p.tail[:], p.tail[len(b):])
	copy(p.tail[maxPrefix-len(b):], b)
}

// boundary applies the rule. held is how many of the last bytes delivered already
// belong to the next message.
func (p *progress) boundary(size int) (held int, ok bool) {
	switch p.state {
	case http.StateNew:
		return 0, p.delivered == 0
	case http.StateIdle:
		held = bufferSize - size
		return held, p.deadlines == 1 && held >= 0 && held <= maxPrefix
	}
	return 0, false
}

// last is a copy of the last n bytes delivered.
func (p *progress) last(n int) []byte {
	if n == 0 {
		return nil
	}
	return append([]byte(nil), p.tail[maxPrefix-n:]...)
}

// isPreface tells whether the connection began like HTTP/2 without TLS:
// "PRI * HTTP/2.0" (RFC 9113 section 3.4). No HTTP/1 method is called PRI.
func (p *progress) isPreface() bool { return string(p.head[:]) == "PRI" }
