package routes

import (
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

// chatHub is the rooms of one process. In an upgrade there are two, and one of them
// alone gives out numbers: the old process's, for as long as it lives. The new one
// follows it: what is posted there is forwarded, and becomes an entry when it comes
// back.
//
//	           old, followed                          new, following
//	                │◀── follow {what it has, by Load} ─────┤
//	post ─▶ number ─┼── entry ─────────────────────────────▶│ its log, its members
//	                │ its log, its members                  │
//	                │◀──────────────────────────── post ────┤◀─ post
//	        number ─┼── entry ─────────────────────────────▶│ its log, its members
//	                ✕ exits                                 │
//	                                                gone    │ alone: it gives out numbers,
//	                                                        │ first to what has not come back
//
// What makes this complete, in order and free of repetitions:
//
//   - One hub numbers at any time. The new one begins when the old process is gone, and
//     that is known only after the last of what it had sent. The old one does not
//     depend on the new one: if that fails, it is followed by nobody, and goes on.
//   - An entry is shown to the old process's members only after it was sent to the new
//     one. So what any client has seen is in both logs, and when a member moves, on the
//     same link, its last entry is there before it.
//   - Entries carry their number, and one that is there already is dropped. Saving the
//     state stops nothing: what is added between Save and Load is behind the numbers
//     that the new hub says it has, and is sent again from there.
//   - A post carries an id. The new hub keeps it until it comes back; the old one takes
//     the id of a hub only if it is higher than the last, so that a repetition is none.
//     What has not come back when the old process is gone has been seen by nobody
//     there, and is numbered here.
//
// Pushes are posts of whoever numbers. Without Deps.Relay a hub is alone for ever.
type chatHub struct {
	id   string // random: the origin of its posts
	send func(data []byte) error

	mu      sync.Mutex // guards what follows, and the rooms
	rooms   map[string]*chatRoom
	members int
	role    chatRole
	news    chan struct{} // not nil while somebody waits for the hub; closed when something changes

	posts    uint64      // the number of the last post that was forwarded
	pending  []*chatPost // forwarded, and not come back yet
	heard    chatPostID  // the last post that the follower has forwarded
	follower string      // id of the hub that follows, be it this one
	saved    bool        // somebody has the state, and may follow
	asked    bool        // a follower that was lost has been asked to begin anew

	out          []chatParcel // to be sent, in order
	queued, sent uint64       // parcels, all in all
	sending      bool         // a goroutine is at it
	conversation int          // which one it is; what was queued in an earlier one is settled
}

type chatRole string

const (
	chatAlone     chatRole = "alone"     // it numbers, for itself
	chatFollowed  chatRole = "followed"  // it numbers, for the new process too
	chatFollowing chatRole = "following" // the old process numbers
)

func newChatHub() *chatHub {
	return &chatHub{id: newChatID(), rooms: map[string]*chatRoom{}, role: chatAlone}
}

// newChatID is unique among the members and the hubs of a service.
func newChatID() string { return strings.ToLower(rand.Text()[:13]) }

// join makes the caller a member of a room, which is made if there is none.
func (h *chatHub) join(name string, push time.Duration) (*chatRoom, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members >= chatMembers {
		return nil, errChatFull
	}
	if h.rooms[name] == nil && len(h.rooms) >= chatRooms && !h.forget() {
		return nil, errChatFull
	}
	r := h.room(name)
	if h.role == chatAlone && r.here == 0 {
		r.push = 0 // a wish of members that have left
	}
	h.enter(r, push)
	return r, nil
}

// rejoin is join for a member of another process: it is not turned away.
func (h *chatHub) rejoin(name string, push time.Duration) *chatRoom {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.room(name)
	if r.push > 0 {
		push = 0 // somebody's later wish, or this one
	}
	h.enter(r, push)
	return r
}

// begin is the cursor of a member that begins behind the entry since.
func (h *chatHub) begin(r *chatRoom, since *uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case since == nil:
		return r.last
	case *since > r.last && h.role == chatFollowing:
		return *since // seen in the old process, and on its way here
	case *since > r.last, *since+1 < r.first():
		return r.first() - 1
	}
	return *since
}

// leave ends a membership. It returns when what was posted has left for the other
// process, if there is one, since the end of the last connection may be that of this
// process.
func (h *chatHub) leave(r *chatRoom) {
	h.mu.Lock()
	h.members--
	r.here--
	if r.here == 0 {
		r.emptied = time.Now()
		h.tell(r)
	}
	h.tick(r)
	h.mu.Unlock()
	h.flushed(time.Second)
}

// enter counts a member that wishes for a push, or, with 0, for none. The caller holds
// mu.
func (h *chatHub) enter(r *chatRoom, push time.Duration) {
	h.members++
	r.here++
	changed := push > 0 && push != r.push
	if changed {
		r.push = push
		h.untick(r)
	}
	if r.here == 1 || changed {
		h.tell(r)
	}
	h.tick(r)
}

// room finds or makes a room. The caller holds mu.
func (h *chatHub) room(name string) *chatRoom {
	r := h.rooms[name]
	if r == nil {
		r = newChatRoom(name)
		h.rooms[name] = r
	}
	return r
}

// forget makes place for another room: that which has been empty for longest goes. It
// does so in one process only, so that both have the same rooms. The caller holds mu.
func (h *chatHub) forget() bool {
	if h.role != chatAlone {
		return false
	}
	var oldest *chatRoom
	for _, r := range h.rooms {
		if r.here+r.there == 0 && (oldest == nil || r.emptied.Before(oldest.emptied)) {
			oldest = r
		}
	}
	if oldest == nil {
		return false
	}
	delete(h.rooms, oldest.name)
	return true
}
