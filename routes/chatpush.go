package routes

import "time"

// tick sees to it that a push is due in the room if it is to have any. Only the hub
// that numbers pushes, and only while somebody listens, here or there. While there are
// two processes one that is due stays so in an empty room: its members may be on their
// way, and each of their moves would put it off. The caller holds mu.
func (h *chatHub) tick(r *chatRoom) {
	silent := r.push == 0 || r.here+r.there == 0
	if h.role == chatFollowing || silent && h.role == chatAlone {
		h.untick(r)
		return
	}
	if silent || r.timer != nil {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(r.push, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if r.timer != t {
			return // stopped, when it was too late for that
		}
		if r.here+r.there > 0 {
			h.number(r, &chatEntry{From: chatServer, Text: time.Now().UTC().Format("2006-01-02T15:04:05.000Z")})
		}
		r.timer = nil
		h.tick(r)
	})
	r.timer = t
}

// untick takes back a push that is due. The caller holds mu.
func (h *chatHub) untick(r *chatRoom) {
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}
