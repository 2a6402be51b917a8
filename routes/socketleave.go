package routes

import "time"

// watch is the one goroutine that every socket has beside its reader; serve waits
// for it.
func (s *socket) watch(leave, done <-chan struct{}) {
	// The deadline is set on whatever the server's listener has made of the
	// connection. A panic in there would end the process, and all its connections.
	defer func() {
		if v := recover(); v != nil && s.logPanic != nil {
			s.logPanic(v)
		}
	}()
	select {
	case <-leave:
		s.leave(serviceRestart)
	case <-done:
	}
}

// leave makes the reader end with a Close frame: at once if it is between messages,
// else when it has dealt with the one at hand. The first call counts.
func (s *socket) leave(bye farewell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		return
	}
	s.leaving = true
	s.goodbye = bye
	s.leaveBy = time.Now().Add(s.closeWait)
	if s.between {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	} else {
		_ = s.conn.SetReadDeadline(s.leaveBy)
	}
}

// endWatch makes a leave that is yet to come do nothing: the socket is closing, and
// the read deadline is the closing handler's. It returns what to say if a leave had
// come.
func (s *socket) endWatch() farewell {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	return s.goodbye
}
