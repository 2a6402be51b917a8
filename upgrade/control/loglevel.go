package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rs/zerolog"
)

// LogLevel is what a process writes to its log: lines of Level and above.
type LogLevel struct {
	Level      string     `json:"level"`
	Configured string     `json:"configured"`      // what the next generation begins with
	Until      *time.Time `json:"until,omitempty"` // then it is the configured one again
}

// LevelChange is the wish for another level.
type LevelChange struct {
	Level zerolog.Level
	For   time.Duration // 0: until the process ends
	By    string        // who wants it
}

// errLevel says what a level can be.
var errLevel = errors.New("want trace, debug, info, warn, error or disabled")

// ParseLevel reads the name of a level.
func ParseLevel(s string) (zerolog.Level, error) {
	level, err := zerolog.ParseLevel(s)
	if err != nil || s == "" || level.String() != s {
		return zerolog.NoLevel, fmt.Errorf("log level %q: %w", s, errLevel)
	}
	return level, nil
}

// maxLevelBody is more than a change of the level needs.
const maxLevelBody = 4 << 10

// logLevel tells the level, and changes it.
func (s *Server) logLevel(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		answer(w, http.StatusOK, s.service.LogLevel())
		return
	case http.MethodPut:
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", "/log-level takes GET and PUT")
		return
	}
	if !s.mayChange(w, r) {
		return
	}
	var q struct {
		Level string `json:"level"`
		For   string `json:"for"`
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLevelBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		fail(w, http.StatusBadRequest, "bad_body", `want {"level":"debug"} or {"level":"debug","for":"10m"}`)
		return
	}
	level, err := ParseLevel(q.Level)
	if err != nil {
		fail(w, http.StatusBadRequest, "bad_level", err.Error())
		return
	}
	change := LevelChange{Level: level, By: who(r)}
	if q.For != "" {
		if change.For, err = time.ParseDuration(q.For); err != nil || change.For <= 0 {
			fail(w, http.StatusBadRequest, "bad_for", fmt.Sprintf("for %q: want a positive duration, for example 10m", q.For))
			return
		}
	}
	now, err := s.service.SetLogLevel(change)
	if err != nil {
		fail(w, http.StatusUnprocessableEntity, "not_written", err.Error())
		return
	}
	answer(w, http.StatusOK, now)
}

// who is at the other end, for the log: never with the token.
func who(r *http.Request) string {
	if p, _ := r.Context().Value(peerKey{}).(peer); p.local {
		if p.known {
			return fmt.Sprintf("uid %d", p.uid)
		}
		return "a process on the Unix socket"
	}
	return "the token, from " + r.RemoteAddr
}

// LogLevel asks for the level.
func (c *Client) LogLevel(ctx context.Context) (LogLevel, error) {
	var l LogLevel
	return l, c.get(ctx, "/log-level", &l)
}

// SetLogLevel changes the level, for a while if length is not 0.
func (c *Client) SetLogLevel(ctx context.Context, level string, length time.Duration) (LogLevel, error) {
	q := map[string]string{"level": level}
	if length != 0 {
		q["for"] = length.String()
	}
	b, err := json.Marshal(q)
	if err != nil {
		return LogLevel{}, err
	}
	resp, err := c.send(ctx, http.MethodPut, "/log-level", bytes.NewReader(b))
	if err != nil {
		return LogLevel{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	var l LogLevel
	return l, decode(resp, &l)
}
