package handoff

import "golang.org/x/net/http2"

const (
	// frameHeader is the fixed header of every frame: length (24 bits), type, flags,
	// stream (31 bits): RFC 9113 section 4.1.
	frameHeader = 9
	// pingData is the whole payload of a PING: RFC 9113 section 6.7.
	pingData = 8
)

// frames follows one direction of an HTTP/2 connection through reads or writes of
// any size, to know where a frame ends. It keeps the header of the frame and as
// much of the payload as a PING has, nothing else.
type frames struct {
	preface int // bytes of the client's connection preface still to come (RFC 9113 section 3.4)
	head    [frameHeader + pingData]byte
	seen    int // bytes of the current frame
	size    int // of the current frame; of its header only, until that is complete
}

// next takes bytes from p, at most up to the end of the frame they belong to, and
// tells how many and whether the frame has ended with them. Until the following
// call the methods below describe that frame.
func (f *frames) next(p []byte) (n int, ended bool) {
	if f.preface > 0 {
		n = min(f.preface, len(p))
		f.preface -= n
		return n, false
	}
	if f.seen == f.size {
		f.seen, f.size = 0, frameHeader
	}
	for n < len(p) {
		part := p[n:min(len(p), n+f.size-f.seen)]
		if f.seen < len(f.head) {
			copy(f.head[f.seen:], part)
		}
		short := f.seen < frameHeader
		f.seen += len(part)
		n += len(part)
		if short && f.seen == frameHeader {
			f.size += int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
		}
		if f.seen == f.size {
			return n, true
		}
	}
	return n, false
}

// between tells whether the bytes so far end with a frame.
func (f *frames) between() bool { return f.preface == 0 && f.seen == f.size }

func (f *frames) kind() http2.FrameType { return http2.FrameType(f.head[3]) }

func (f *frames) has(flag http2.Flags) bool { return http2.Flags(f.head[4]).Has(flag) }

// stream is the frame's stream, without the reserved bit.
func (f *frames) stream() uint32 {
	return (uint32(f.head[5])<<24 | uint32(f.head[6])<<16 | uint32(f.head[7])<<8 | uint32(f.head[8])) & maxStream
}

// isAck tells whether the frame answers the PING that carries data.
func (f *frames) isAck(data [pingData]byte) bool {
	return f.kind() == http2.FramePing && f.has(http2.FlagPingAck) && f.size == len(f.head) &&
		[pingData]byte(f.head[frameHeader:]) == data
}
