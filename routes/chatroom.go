package routes

import (
	"bytes"
	"encoding/json"
	"time"
)

// Bounds of one room's log.
const (
	chatRooms   = 128  // in one process
	chatHistory = 1000 // entries
)

// chatEntry is one entry of a room's log. It does not change once it is in there.
type chatEntry struct {
	Seq  uint64 `json:"seq"`
	From string `json:"from"`
	Text string `json:"text"`
	By   string `json:"by,omitempty"` // token of the member that posted it
	chatPostID

	wire []byte // as clients get it
}

// chatPostID identifies a post that one process has forwarded to another, over the
// life of both, so that it becomes one entry however often it is forwarded.
type chatPostID struct {
	Origin string `json:"origin,omitempty"` // of the hub that took it
	N      uint64 `json:"n,omitempty"`      // from 1, among those of this hub
}

// chatRoom is a log with the latest entries of a room, and who listens to it. The
// hub's lock guards all of it.
//
//	1 … first-1 │ first … last │ last+1 … given
//	  forgotten │   the log    │ on their way to the other process
type chatRoom struct {
	name  string
	log   []*chatEntry // consecutive, up to last
	last  uint64
	given uint64 // the highest number that was given out here

	changed chan struct{} // closed when an entry is added
	here    int           // members in this process
	there   int           // members in the other process, as far as that has said
	emptied time.Time     // when the last member left

	push  time.Duration // 0: none
	timer *time.Timer   // of the next push; nil: none is due
}

func newChatRoom(name string) *chatRoom {
	return &chatRoom{name: name, changed: make(chan struct{})}
}

// first is the number of the oldest entry there is, or of the next one.
func (r *chatRoom) first() uint64 { return r.last - uint64(len(r.log)) + 1 }

// add puts an entry behind the log. One that is there already changes nothing. One that
// is further ahead means that those between are lost to us: then the log begins with
// it, and members that are behind find out.
func (r *chatRoom) add(e *chatEntry) {
	if e.Seq <= r.last {
		return
	}
	if e.Seq > r.last+1 {
		r.log = nil
	}
	e.wire = chatWire(r.name, e)
	r.log = append(r.log, e)
	if len(r.log) > chatHistory {
		r.log = r.log[1:] // not overwritten: others may be reading it
	}
	r.last = e.Seq
	r.given = max(r.given, r.last)
	r.wake()
}

// wake makes everyone who waits for the room look again.
func (r *chatRoom) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// after returns up to chatBatch entries behind the cursor, and false if some of them
// have been forgotten.
func (r *chatRoom) after(cursor uint64) ([]*chatEntry, bool) {
	if cursor >= r.last {
		return nil, true
	}
	if cursor+1 < r.first() {
		return nil, false
	}
	at := int(cursor + 1 - r.first())
	return r.log[at:min(at+chatBatch, len(r.log)):min(at+chatBatch, len(r.log))], true
}

// chatWire is an entry as clients get it.
func chatWire(room string, e *chatEntry) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(struct { // strings and a number: it cannot fail
		Seq  uint64 `json:"seq"`
		Room string `json:"room"`
		From string `json:"from"`
		Text string `json:"text"`
	}{e.Seq, room, e.From, e.Text})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
