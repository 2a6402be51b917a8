package routes

import (
	"encoding/json"
	"time"
)

// chatParcel is a message to be sent. An entry in it may be shown here once it was.
type chatParcel struct {
	data  []byte
	room  *chatRoom
	entry *chatEntry
}

// chatResend is how long a follower waits before it sends again what could not be sent.
const chatResend = 50 * time.Millisecond

// put queues a message. Nothing is sent under the lock: the other process may be
// waiting for the same. The caller holds mu.
func (h *chatHub) put(m chatMessage, r *chatRoom, shown *chatEntry) {
	m.Hub = h.follower
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // of our own types, which all marshal
	}
	h.out = append(h.out, chatParcel{data, r, shown})
	h.queued++
	if !h.sending {
		h.sending = true
		go h.sendAll()
	}
}

// sendAll sends what is queued and ends: leave and the other side's end wait for it.
func (h *chatHub) sendAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.out) > 0 {
		p, conversation := h.out[0], h.conversation
		h.mu.Unlock()
		err := h.send(p.data)
		h.mu.Lock()
		switch {
		case conversation != h.conversation: // it has ended, and with it what was queued
		case err == nil:
			h.out[0] = chatParcel{}
			h.out = h.out[1:]
			h.sent++
			if p.entry != nil {
				p.room.add(p.entry)
			}
			h.changed()
		case h.role == chatFollowing:
			// The old process does not read, or is gone, which we shall be told.
			h.await(chatResend, func() bool { return conversation != h.conversation })
		default:
			h.settle()
			h.role = chatAlone
		}
	}
	h.sending = false
	h.changed()
}

// settle ends a conversation: what was queued for it is shown here alone. The caller
// holds mu.
func (h *chatHub) settle() {
	h.conversation++
	for _, p := range h.out {
		if p.entry != nil {
			p.room.add(p.entry)
		}
	}
	h.out, h.sent = nil, h.queued
	h.changed()
}

// flushed waits until what is queued now is sent.
func (h *chatHub) flushed(d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	mark := h.queued
	return h.await(d, func() bool { return h.sent >= mark })
}

// await waits until cond holds, at most for d. The caller holds mu, which is released
// while it waits.
func (h *chatHub) await(d time.Duration, cond func() bool) bool {
	if cond() {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		if h.news == nil {
			h.news = make(chan struct{})
		}
		news, late := h.news, false
		h.mu.Unlock()
		select {
		case <-news:
		case <-t.C:
			late = true
		}
		h.mu.Lock()
		if cond() || late {
			return cond()
		}
	}
}

// changed wakes those who wait for the hub. The caller holds mu.
func (h *chatHub) changed() {
	if h.news != nil {
		close(h.news)
		h.news = nil
	}
}
