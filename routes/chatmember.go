package routes

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/holdfast-go/holdfast/handoff"
)

// chatTooSlow is what a member hears that does not read as fast as the others write.
var chatTooSlow = farewell{statusTryAgainLater, "too slow: entries have been forgotten before they could be sent"}

// chatMemberState is what a member takes along to another process.
type chatMemberState struct {
	RequestID string        `json:"request_id"`
	Room      string        `json:"room"`
	Name      string        `json:"name"`
	Token     string        `json:"token"`    // what its entries are known by
	Push      time.Duration `json:"push"`     // its wish
	Cursor    uint64        `json:"cursor"`   // the last entry that was sent to the client
	Own       int64         `json:"own"`      // its posts whose entries have not been sent to the client
	Messages  int64         `json:"messages"` // its posts, all in all
}

// chatMember is a cursor on a room's log. The socket's reader posts; deliver, a second
// goroutine, sends what is behind the cursor, and is waited for.
//
//	client ─▶ reader ─▶ hub ─▶ log ─▶ deliver ─▶ client
//	                            ▲        │
//	                            └─cursor─┘ moves, under the write lock, when it was sent
type chatMember struct {
	hub   *chatHub
	room  *chatRoom
	s     *socket
	state chatMemberState // Cursor is guarded by the write lock, the rest is the reader's
	own   atomic.Int64
	sent  chan struct{} // has something in it when entries were sent
	quit  chan struct{} // closed when the reader has ended
	ended chan struct{} // closed when deliver has
}

func newChatMember(hub *chatHub, room *chatRoom, s *socket, state chatMemberState) *chatMember {
	m := &chatMember{
		hub: hub, room: room, s: s, state: state,
		sent: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
	}
	m.own.Store(state.Own)
	s.onMessage = m.post
	s.beforeClose = m.settle
	return m
}

// serve is the member's life in this process.
func (m *chatMember) serve(leave <-chan struct{}, movable bool) error {
	if movable {
		m.s.movable(chatName, m.freeze)
	}
	var group sync.WaitGroup
	group.Go(m.deliver)
	err := m.s.serve(leave)
	close(m.quit)
	_ = m.s.conn.Close() // deliver may be in a write
	group.Wait()
	return err
}

// post makes an entry of a message.
func (m *chatMember) post(op ws.OpCode, data []byte) error {
	if err := chatText(op, data); err != nil {
		return err
	}
	m.own.Add(1)
	m.state.Messages++
	err := m.hub.post(m.room, &chatEntry{From: m.state.Name, Text: string(data), By: m.state.Token})
	if errors.Is(err, errChatBusy) {
		return farewell{statusTryAgainLater, "the chat is busy"}
	}
	return err
}

// deliver sends the client what is behind its cursor, until the reader ends, or the
// connection does.
func (m *chatMember) deliver() {
	defer close(m.ended)
	defer func() {
		// Outside of a handler a panic would end the process.
		if v := recover(); v != nil {
			_ = m.s.conn.Close()
			if m.s.logPanic != nil {
				m.s.logPanic(v)
			}
		}
	}()
	cursor := m.state.Cursor
	for {
		batch, more, bye, ok := m.hub.after(m.room, cursor)
		if !ok {
			m.s.leave(bye)
			return
		}
		if len(batch) == 0 {
			select {
			case <-more:
			case <-m.quit:
				return
			}
			continue
		}
		if !m.write(batch) {
			return
		}
		cursor = batch[len(batch)-1].Seq
	}
}

// write sends entries and moves the cursor behind them.
func (m *chatMember) write(batch []*chatEntry) bool {
	frames := make([]ws.Frame, len(batch))
	own := int64(0)
	for i, e := range batch {
		frames[i] = ws.NewTextFrame(e.wire)
		if e.By == m.state.Token {
			own++
		}
	}
	m.s.lock()
	defer m.s.unlock()
	err := m.s.writeLocked(frames...)
	if err == nil {
		m.state.Cursor = batch[len(batch)-1].Seq
		m.own.Add(-own)
		select {
		case m.sent <- struct{}{}:
		default:
		}
		return true
	}
	if !errors.Is(err, handoff.ErrMoved) && !errors.Is(err, errClosing) {
		_ = m.s.conn.Close() // a part of a frame may be out
	}
	return false
}

// settle waits until the client has had all its own entries: then a message of which it
// has seen none was not taken, and can be sent again elsewhere.
func (m *chatMember) settle() {
	bound := time.NewTimer(m.s.closeWait)
	defer bound.Stop()
	for m.own.Load() > 0 {
		select {
		case <-m.sent:
		case <-m.ended:
			return
		case <-bound.C:
			return
		}
	}
}

var errChatUnlinked = errors.New("routes: the other process does not have the room")

// freeze is called with the write lock held, so the cursor stands.
func (m *chatMember) freeze() ([]byte, error) {
	// What was posted here must be on its way before its member is.
	if !m.hub.linked(socketFreezeWait) || !m.hub.flushed(socketFreezeWait) {
		return nil, errChatUnlinked
	}
	state := m.state
	state.Own = m.own.Load()
	return json.Marshal(state)
}
