package routes

import (
	"errors"
	"time"

	"github.com/gobwas/ws"

	"github.com/holdfast-go/holdfast/handoff"
)

// socketFreezeWait is how long a move waits for a write that is under way. A peer
// that reads is done with it long before; one that does not is told to leave later,
// like any connection that cannot move.
const socketFreezeWait = time.Second

var (
	errWriterBusy = errors.New("routes: the websocket's peer does not read")
	errClosing    = errors.New("routes: the websocket is closing")
)

func (s *socket) lock()   { s.writing <- struct{}{} }
func (s *socket) unlock() { <-s.writing }

// lockFor is lock with a bound.
func (s *socket) lockFor(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case s.writing <- struct{}{}:
		return nil
	case <-t.C:
		return errWriterBusy
	}
}

// write writes one frame.
func (s *socket) write(f ws.Frame) error {
	s.lock()
	defer s.unlock()
	return s.writeLocked(f)
}

// writeLocked writes frames for one who holds the write lock. After an error the
// peer may have got a part of one, and nothing can follow.
func (s *socket) writeLocked(frames ...ws.Frame) error {
	switch {
	case s.moved:
		return handoff.ErrMoved
	case s.closing:
		return errClosing
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(socketWriteWait)); err != nil {
		return err
	}
	for _, f := range frames {
		s.closing = s.closing || f.Header.OpCode == ws.OpClose
		if err := ws.WriteFrame(s.wr, f); err != nil {
			return err
		}
	}
	return s.wr.Flush()
}
