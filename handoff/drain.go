package handoff

import (
	"context"
	"math"
	"sort"
	"time"
)

// DrainOptions bounds a drain. The zero value cuts everything at once.
type DrainOptions struct {
	// Timeout is the drain deadline: what has not finished then is cut.
	Timeout time.Duration
	// SilentAfter and SilentUntil are the window, counted from the start of the
	// drain, over which connections on which nothing arrives are closed. Late is
	// good: each request that arrives before is answered and tells its client to
	// reconnect. The window should end before Timeout. HTTP/2 clients know already:
	// their connections end as soon as they have acknowledged and are quiet, and with
	// the end of the window they need not have acknowledged.
	SilentAfter, SilentUntil time.Duration
	// HijackedUntil is the time, from the start of the drain, over which hijacked
	// connections are told to leave one after the other.
	HijackedUntil time.Duration
	// Hasten, when closed, makes the window begin then and last for HastenTo.
	Hasten   <-chan struct{}
	HastenTo time.Duration
}

// Cut is a request, or a hijacked connection, that the drain deadline ended.
type Cut struct {
	Method string
	Path   string // without the query, which may hold secrets
	Peer   string
	Age    time.Duration
}

// DrainReport says what became of the connections that were open when the drain
// began, or that were accepted during it.
type DrainReport struct {
	Start    Counts        // when the drain began
	Retired  int           // silent connections that were closed at a boundary
	Cut      []Cut         // requests that the deadline ended
	Dropped  int           // connections closed by the deadline, with or without a request
	Duration time.Duration // until the last connection was closed
}

// drainTick is the grain of the windows. The end of the drain is an event and
// does not wait for it.
const drainTick = 10 * time.Millisecond

// Drain lets go of every connection and returns when none is left, and every handler
// that had hijacked one has returned: at the latest at the deadline, or when ctx ends, whichever is first; both cut what is left.
// The listeners must have been parked, otherwise new connections keep it busy. A
// server that has been drained does not serve again.
func (s *Server) Drain(ctx context.Context, o DrainOptions) DrainReport {
	began := time.Now()
	report, before := DrainReport{Start: s.Counts()}, s.endings()
	s.tell()

	deadline := time.NewTimer(o.Timeout)
	defer deadline.Stop()
	ticks := time.NewTicker(drainTick)
	defer ticks.Stop()
	empty := s.whenEmpty()
	hasten := o.Hasten
	silent := window{from: o.SilentAfter, until: o.SilentUntil}
	hijacked := window{until: o.HijackedUntil}

	finish := func() DrainReport {
		now := s.endings()
		report.Retired = now[fateRetired] - before[fateRetired]
		report.Dropped = now[fateDropped] - before[fateDropped]
		report.Duration = time.Since(began)
		return report
	}
	for {
		select {
		case <-empty:
			return finish()
		case <-hasten:
			hasten = nil
			now := time.Since(began)
			silent = window{from: now, until: now + o.HastenTo}
			hijacked = silent
			continue
		case <-ticks.C:
			now := time.Since(began)
			s.step(now, silent, hijacked)
			if s.h2 != nil {
				s.h2.step(now >= silent.until)
			}
			continue
		case <-deadline.C:
		case <-ctx.Done():
		}
		report.Cut = s.cut()
		return finish()
	}
}

// tell begins the drain: from here every response on HTTP/1 says "Connection:
// close", and HTTP/2 clients get their first GOAWAY.
func (s *Server) tell() {
	s.tellOnce.Do(func() {
		s.leaving.Store(true)
		if s.h2 != nil {
			s.h2.tell()
		}
		for _, c := range s.snapshot() {
			if v := c.look(); !v.hijacked {
				c.tellToLeave()
			}
		}
	})
}

// window is a time, from the start of the drain, over which something is spread.
type window struct{ from, until time.Duration }

// share says how many of n are due now, so that all are done at the window's end.
func (w window) share(now time.Duration, n int) int {
	if now < w.from || n == 0 {
		return 0
	}
	left := w.until - now
	if left <= drainTick {
		return n
	}
	return int(math.Ceil(float64(n) * float64(drainTick) / float64(left)))
}

// step does what is due.
func (s *Server) step(now time.Duration, silent, hijacked window) {
	if now < silent.from && now > hijacked.until {
		return
	}
	var quiet, taken []*Conn
	for _, c := range s.snapshot() {
		switch v := c.look(); {
		case v.silent:
			quiet = append(quiet, c)
		case v.hijacked:
			// One that is to move when its message is over gets until the window for it.
			if !v.told && (!v.moves || now >= silent.from) {
				taken = append(taken, c)
			}
		}
	}
	for _, c := range quiet[:silent.share(now, len(quiet))] {
		c.retire()
	}
	for _, c := range taken[:hijacked.share(now, len(taken))] {
		c.tellToLeave()
	}
}

// cut closes what is left and reports the requests that this ended.
func (s *Server) cut() (cuts []Cut) {
	now := time.Now()
	for _, c := range s.snapshot() {
		cuts = append(cuts, c.cut(now)...)
	}
	sort.Slice(cuts, func(i, j int) bool { return cuts[i].Age > cuts[j].Age })
	return cuts
}
