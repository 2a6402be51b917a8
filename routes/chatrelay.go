package routes

import (
	"encoding/json"
	"time"
)

// chatMessage is what one hub says to the other. It is JSON, and with the bounds of a
// message and of the names well below what the relay takes.
type chatMessage struct {
	Type  chatMessageType   `json:"type"`
	Hub   string            `json:"hub"`            // the follower's id, whoever speaks
	Have  map[string]uint64 `json:"have,omitempty"` // follow: the last entry of each room
	Room  string            `json:"room,omitempty"`
	Entry *chatEntry        `json:"entry,omitempty"` // entry; post, without a number
	Here  int               `json:"here,omitempty"`  // room: members
	Push  time.Duration     `json:"push,omitempty"`  // room: 0 says nothing
}

type chatMessageType string

const (
	chatSaysFollow chatMessageType = "follow" // new to old: send me what I do not have, and what comes
	chatSaysAgain  chatMessageType = "again"  // old to new: I had lost you, begin anew
	chatSaysEntry  chatMessageType = "entry"  // old to new
	chatSaysPost   chatMessageType = "post"   // new to old
	chatSaysRoom   chatMessageType = "room"   // both: who listens here, and the push I know of
)

// tell says who listens here. The caller holds mu.
func (h *chatHub) tell(r *chatRoom) {
	if h.role != chatAlone {
		h.put(chatMessage{Type: chatSaysRoom, Room: r.name, Here: r.here, Push: r.push}, nil, nil)
	}
}

// forward sends a post to the old process. The caller holds mu.
func (h *chatHub) forward(p *chatPost) {
	h.put(chatMessage{Type: chatSaysPost, Room: p.room.name, Entry: p.entry}, nil, nil)
}

// receive takes a message of the other process. It never waits for anything.
func (h *chatHub) receive(data []byte) {
	var m chatMessage
	if json.Unmarshal(data, &m) != nil {
		return // of another version, which says something that this one cannot know
	}
	if (m.Type == chatSaysEntry || m.Type == chatSaysPost) && m.Entry == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.role == chatFollowing && m.Hub != h.id {
		return // for an earlier process: it was about to be sent when that was gone
	}
	switch m.Type {
	case chatSaysFollow:
		if h.role != chatFollowing {
			h.follower = m.Hub
			h.lead(m.Have)
		}
	case chatSaysAgain:
		if h.role == chatFollowing {
			h.follow()
		}
	case chatSaysEntry:
		if h.role == chatFollowing {
			h.room(m.Room).add(m.Entry)
			h.cameBack(m.Entry.chatPostID)
		}
	case chatSaysPost:
		if h.role == chatAlone && !h.asked {
			h.asked, h.follower = true, m.Hub
			h.put(chatMessage{Type: chatSaysAgain}, nil, nil)
		}
		if h.role == chatFollowed {
			id := m.Entry.chatPostID
			if id.Origin == h.heard.Origin && id.N <= h.heard.N {
				return // forwarded again
			}
			h.heard = id
			h.number(h.room(m.Room), m.Entry)
		}
	case chatSaysRoom:
		r := h.room(m.Room)
		r.there = m.Here
		if m.Push > 0 && m.Push != r.push {
			r.push = m.Push
			h.untick(r)
		}
		h.tick(r)
	}
}

// lead takes a follower, and brings it up to date. The caller holds mu.
func (h *chatHub) lead(have map[string]uint64) {
	h.settle()
	h.role, h.asked = chatFollowed, false
	for _, r := range h.rooms {
		h.tell(r)
		for _, e := range r.log {
			if e.Seq > have[r.name] {
				h.put(chatMessage{Type: chatSaysEntry, Room: r.name, Entry: e}, nil, nil)
			}
		}
	}
}

// follow tells the old process what this one has, and all that it may have missed. The
// caller holds mu.
func (h *chatHub) follow() {
	h.settle()
	h.follower = h.id
	have := make(map[string]uint64, len(h.rooms))
	for _, r := range h.rooms {
		have[r.name] = r.last
	}
	h.put(chatMessage{Type: chatSaysFollow, Have: have}, nil, nil)
	for _, r := range h.rooms {
		h.tell(r)
	}
	for _, p := range h.pending {
		h.forward(p)
	}
}

// cameBack strikes off a post that has become an entry, and with it the earlier ones:
// they come back in order. The caller holds mu.
func (h *chatHub) cameBack(id chatPostID) {
	if id.Origin != h.id {
		return
	}
	for len(h.pending) > 0 && h.pending[0].entry.N <= id.N {
		h.pending[0] = nil
		h.pending = h.pending[1:]
	}
	h.changed()
}

// gone ends the conversation: the old process has exited, or the new one has failed,
// and all that it has sent has been received.
func (h *chatHub) gone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settle()
	h.role = chatAlone
	pending := h.pending
	h.pending, h.heard, h.asked, h.saved = nil, chatPostID{}, false, false
	for _, p := range pending {
		h.number(p.room, p.entry)
	}
	for _, r := range h.rooms {
		r.there = 0
		h.tick(r)
		r.wake() // those who wait for entries that cannot come any more
	}
}
