package handoff

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

// Request is one that is being carried out.
type Request struct {
	Method   string
	Path     string // without the query, which may hold secrets
	Age      time.Duration
	Hijacked bool // its handler has taken the connection over: a WebSocket, for example
}

// Requests lists the requests that are being carried out, the longest first, at most
// so many. A hijacked connection is among them until its handler returns; one that has
// come from another process by [Resume] is not, for it has no request here.
//
// It looks at each connection for a moment, and costs a request nothing.
func (s *Server) Requests(most int) []Request {
	now := time.Now()
	var longest []Request
	for _, c := range s.snapshot() {
		longest = c.appendLongest(longest, most, now)
	}
	return longest
}

// appendLongest puts the connection's requests where they belong in a list of the
// longest.
func (c *Conn) appendLongest(list []Request, most int, now time.Time) []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.requests {
		age := now.Sub(q.began)
		if len(list) >= most && (most <= 0 || age <= list[most-1].Age) {
			continue
		}
		at, _ := slices.BinarySearchFunc(list, age, func(r Request, age time.Duration) int { return cmp.Compare(age, r.Age) })
		list = slices.Insert(list, at, Request{Method: q.method, Path: q.path, Age: age, Hijacked: c.state == http.StateHijacked})
		list = list[:min(len(list), most)]
	}
	return list
}
