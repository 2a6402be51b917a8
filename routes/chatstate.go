package routes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
)

// chatSaved bounds the text that a room passes on, in bytes: the latest entries that
// fit. With all of JSON's escapes, twice the bytes at most, and the bound on rooms, all
// of it stays well below handoff.MaxState.
const chatSaved = 128 << 10

// chatState is all rooms, as one process passes them on to the next.
type chatState struct {
	Rooms []chatRoomState `json:"rooms"`
}

type chatRoomState struct {
	Name string        `json:"name"`
	Last uint64        `json:"last"`
	Push time.Duration `json:"push,omitempty"`
	Log  []*chatEntry  `json:"log,omitempty"`
}

// state is what the hub registers. Save stops nothing: the old process numbers on, and
// the new one asks for what came meanwhile. So an upgrade that fails at any point after
// Save has changed nothing here.
func (h *chatHub) state() handoff.State {
	return handoff.State{Name: chatName, Version: 1, Save: h.save, Load: h.load}
}

// chatSaveWait is how long Save waits for the end of the process before this one. It is
// dead already if another upgrade begins, and the news of it is on its way.
const chatSaveWait = 2 * time.Second

func (h *chatHub) save() ([]byte, error) {
	s, err := h.snapshot()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // six bytes for one
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("routes: save the chat: %w", err)
	}
	return b.Bytes(), nil
}

// snapshot is all rooms as they are. Entries do not change, so the rest of the work can
// be done without the lock.
func (h *chatHub) snapshot() (s chatState, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.await(chatSaveWait, func() bool { return h.role != chatFollowing }) {
		return s, errors.New("routes: save the chat: it still follows the process before this one")
	}
	for _, r := range h.rooms {
		from, size := len(r.log), 0
		for from > 0 && size+len(r.log[from-1].Text) <= chatSaved {
			from--
			size += len(r.log[from].Text)
		}
		s.Rooms = append(s.Rooms, chatRoomState{r.name, r.last, r.push, r.log[from:]})
	}
	h.saved = true
	return s, nil
}

// load makes this hub follow the one that has saved b, if it can hear it; else it begins
// with what that knew.
func (h *chatHub) load(b []byte) error {
	var s chatState
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("routes: load the chat: %w", err)
	}
	rooms := make(map[string]*chatRoom, len(s.Rooms))
	for _, saved := range s.Rooms {
		r := newChatRoom(saved.Name)
		r.push, r.emptied = saved.Push, time.Now()
		if slices.Contains(saved.Log, nil) {
			return fmt.Errorf("routes: load the chat: room %q: an entry is missing", saved.Name)
		}
		for _, e := range saved.Log {
			r.add(e)
		}
		if len(saved.Log) == 0 {
			r.last, r.given = saved.Last, saved.Last
		}
		if r.last != saved.Last || len(r.log) != len(saved.Log) {
			return fmt.Errorf("routes: load the chat: room %q: its entries are not consecutive", saved.Name)
		}
		rooms[r.name] = r
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members > 0 {
		return errors.New("routes: load the chat: it has members already")
	}
	h.rooms = rooms
	if h.send != nil {
		h.role = chatFollowing
		h.follow()
	}
	return nil
}
