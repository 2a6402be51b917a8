package handoff

import "net/http"

// Counts is a look at a server's connections.
type Counts struct {
	Conns    int // open, of any kind
	Silent   int // at a message boundary, waiting for the client
	Hijacked int // taken over by a handler: WebSockets, for example
	Requests int // being carried out
	InFlight int // of these, the ones whose connection is not hijacked

	// New, Active and Idle are the others by what net/http says of them
	// (http.ConnState).
	New, Active, Idle int
}

// Counts counts the connections as they are now.
func (s *Server) Counts() Counts {
	var n Counts
	for _, c := range s.snapshot() {
		v := c.look()
		n.Conns++
		n.Requests += v.requests
		if v.silent {
			n.Silent++
		}
		if !v.hijacked {
			n.InFlight += v.requests
		}
		switch v.state {
		case http.StateNew:
			n.New++
		case http.StateActive:
			n.Active++
		case http.StateIdle:
			n.Idle++
		case http.StateHijacked:
			n.Hijacked++
		}
	}
	return n
}

// Add adds the counts of another server.
func (n *Counts) Add(o Counts) {
	n.Conns += o.Conns
	n.Silent += o.Silent
	n.Hijacked += o.Hijacked
	n.Requests += o.Requests
	n.InFlight += o.InFlight
	n.New += o.New
	n.Active += o.Active
	n.Idle += o.Idle
}

// Totals counts a server's connections from its beginning. It only grows.
type Totals struct {
	Accepted int // from the listeners, not from another process
	// By how they ended: see [Account].
	Closed, Moved, Retired, Dropped int
}

// Totals tells how many there have been.
func (s *Server) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *Server) accepted() {
	s.mu.Lock()
	s.total.Accepted++
	s.mu.Unlock()
}

// Add adds the totals of another server.
func (t *Totals) Add(o Totals) {
	t.Accepted += o.Accepted
	t.Closed += o.Closed
	t.Moved += o.Moved
	t.Retired += o.Retired
	t.Dropped += o.Dropped
}

func (t *Totals) end(f fate) {
	switch f {
	case fateClosed:
		t.Closed++
	case fateMoved:
		t.Moved++
	case fateRetired:
		t.Retired++
	case fateDropped:
		t.Dropped++
	}
}
