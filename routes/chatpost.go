package routes

import (
	"errors"
	"time"
)

// chatPost is a post on its way to its number.
type chatPost struct {
	room  *chatRoom
	entry *chatEntry
}

// chatBacklog is how many posts may be under way between the processes before who
// posts has to wait, and chatPatience how long.
const (
	chatBacklog  = 1024
	chatPatience = 10 * time.Second
)

var errChatBusy = errors.New("routes: the chat is not keeping up")

// post makes an entry of what a member has said, here or by way of the other process.
func (h *chatHub) post(r *chatRoom, e *chatEntry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.await(chatPatience, func() bool { return len(h.out)+len(h.pending) < chatBacklog }) {
		return errChatBusy
	}
	if h.role == chatFollowing {
		h.posts++
		e.chatPostID = chatPostID{h.id, h.posts}
		p := &chatPost{r, e}
		h.pending = append(h.pending, p)
		h.forward(p)
		return nil
	}
	h.number(r, e)
	return nil
}

// number gives an entry its place in the log. The caller holds mu.
func (h *chatHub) number(r *chatRoom, e *chatEntry) {
	r.given++
	e.Seq = r.given
	if h.role == chatFollowed {
		h.put(chatMessage{Type: chatSaysEntry, Room: r.name, Entry: e}, r, e)
		return
	}
	r.add(e)
}

// after returns what a member has not had yet, and a channel that is closed when there
// is more. ok is false when there is nothing to be had any more.
func (h *chatHub) after(r *chatRoom, cursor uint64) (batch []*chatEntry, more <-chan struct{}, bye farewell, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch, kept := r.after(cursor)
	switch {
	case !kept:
		return nil, nil, chatTooSlow, false
	case cursor > r.last && h.role != chatFollowing:
		// It has seen entries that were lost with the process that had them.
		return nil, nil, serviceRestart, false
	}
	return batch, r.changed, farewell{}, true
}

// linked tells whether members can move: both processes have the log. The new one may
// be about to say so.
func (h *chatHub) linked(d time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.saved {
		h.await(d, func() bool { return h.role != chatAlone || !h.saved })
	}
	return h.role != chatAlone
}
