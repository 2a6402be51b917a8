package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// Request is a wish for an upgrade.
type Request struct {
	At time.Time `json:"at"`
	// Force shortens the drain of a predecessor that would have to be waited for.
	Force bool `json:"force,omitempty"`
}

// Answer is what becomes of a Request. Exactly one field is set.
type Answer struct {
	Outcome *report.Outcome // carried out, well or not
	Passed  bool            // the next generation carries it out, and will know
	Refused string          // nobody will: why
}

// ResumeName is the name under which [Server.Resume] is registered for connections
// that come from the previous generation.
const ResumeName = "holdfast-admin-upgrade"

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	q := Request{At: time.Now()}
	wait := true
	for name, value := range map[string]*bool{"force": &q.Force, "wait": &wait} {
		if text := r.URL.Query().Get(name); text != "" {
			b, err := strconv.ParseBool(text)
			if err != nil {
				fail(w, http.StatusBadRequest, "bad_parameter", name+" must be 1 or 0")
				return
			}
			*value = b
		}
	}
	s.ask()
	defer s.answered()
	ch := s.service.Upgrade(q)
	if !wait {
		answer(w, http.StatusAccepted, s.service.Status())
		return
	}
	select {
	case a := <-ch:
		if !a.Passed {
			status, v := a.response()
			answer(w, status, v)
			return
		}
	case <-r.Context().Done():
		return // the request stays; its client is gone
	}
	conn, err := hijack(w)
	if conn == nil {
		status, v := Answer{Passed: true}.response()
		answer(w, status, v)
		return
	}
	defer func() { _ = conn.Close() }()
	if err == nil && s.pass(conn, q) {
		return
	}
	status, v := Answer{Passed: true}.response()
	_ = writeRaw(conn, status, v)
}

// pass moves the connection with its question to the next generation, if it can.
func (s *Server) pass(conn net.Conn, q Request) bool {
	b := handoff.Movable(conn, handoff.Mover{
		Name:   ResumeName,
		Freeze: func() ([]byte, error) { return json.Marshal(q) },
	})
	// Now or never: the move has begun already.
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	return errors.Is(b.Wait(), handoff.ErrMoved)
}

// Resume goes on with a question that the previous generation has passed on. It is a
// [handoff.Resume].
func (s *Server) Resume(_ context.Context, conn net.Conn, state []byte) {
	defer func() { _ = conn.Close() }()
	s.ask()
	defer s.answered()
	q := Request{At: time.Now()}
	if err := json.Unmarshal(state, &q); err != nil {
		_ = writeRaw(conn, http.StatusInternalServerError, failure{Error{Code: "malformed", Message: err.Error()}})
		return
	}
	a := <-s.service.Upgrade(q)
	if a.Passed && s.pass(conn, q) {
		return
	}
	status, v := a.response()
	_ = writeRaw(conn, status, v)
}

// response is the answer in HTTP.
func (a Answer) response() (int, any) {
	switch {
	case a.Outcome != nil && a.Outcome.Result == report.Succeeded:
		return http.StatusOK, a.Outcome
	case a.Outcome != nil:
		return http.StatusConflict, a.Outcome
	case a.Passed:
		return http.StatusServiceUnavailable, failure{Error{
			Code:    codePassedOn,
			Message: "the request was passed on to the next generation, but not this connection: ask that one",
		}}
	}
	return http.StatusServiceUnavailable, failure{Error{Code: "stopping", Message: "no upgrade any more: " + a.Refused}}
}

const codePassedOn = "passed_on"
