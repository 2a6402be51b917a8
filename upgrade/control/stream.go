package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control/page"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The status page's stream of server-sent events (WHATWG HTML, section 9.2): a view of
// the service about each second, and at once when something changes. In its order:
//
//	begin    what this generation lets the page do, and the figures of the last minutes
//	reports  the last upgrades; again when one has ended
//	mark     a moment of an upgrade. Its id is that of the mark, so that a client that
//	         comes again, here or to the next generation, hears what it has missed
//	view     the service as it is, with the figures of the last seconds

const (
	// maxStreams bounds what open pages cost.
	maxStreams = 64
	// writeTimeout is how long a client may take to read what was sent to it.
	writeTimeout = 10 * time.Second
	// lateness is how far behind the full second the view of it is: then the figures of
	// every generation are there.
	lateness = 60 * time.Millisecond
	// busyTick is how often there is a view while two generations live.
	busyTick = 250 * time.Millisecond
	// lastReports is how many upgrades are listed.
	lastReports = 20
	// again and atOnce are when a client shall come again (the retry field), after a
	// failure and when another generation serves. Not 0: should that one die in this
	// very moment, the client would try without a pause.
	again, atOnce = time.Second, 20 * time.Millisecond
	// sightAge is how long streams share a view.
	sightAge = 100 * time.Millisecond
)

// wantsSSE tells whether a client asks for server-sent events.
func wantsSSE(r *http.Request) bool {
	for _, line := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(line, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// sight is a view that several streams share.
type sight struct {
	at      time.Time
	changes int
	view    report.View
}

// look gives the service as it is, or was a moment ago if nothing has changed since.
func (s *Server) look() report.View {
	n := s.service.Events().changes()
	s.mu.Lock()
	last := s.sight
	s.mu.Unlock()
	if last.changes == n && time.Since(last.at) < sightAge {
		return last.view
	}
	now := sight{time.Now(), n, s.service.View()}
	s.mu.Lock()
	s.sight = now
	s.mu.Unlock()
	return now.view
}

// stream serves one page.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold it back (ngx_http_proxy_module)
	if r.Method == http.MethodHead {
		return
	}
	if !s.enter() {
		fail(w, http.StatusServiceUnavailable, "too_many", fmt.Sprintf("%d status pages are open: close one", maxStreams))
		return
	}
	defer s.leave()
	ch, cancel := s.service.Events().Subscribe()
	defer cancel()
	leaving := handoff.Leaving(r.Context())
	c := &follower{server: s, rc: http.NewResponseController(w), w: w}
	defer func() { _ = c.rc.SetWriteDeadline(time.Time{}) }()
	if !c.begin(s.access(r), lastID(r)) {
		return
	}
	timer := time.NewTimer(c.pause())
	defer timer.Stop()
	for {
		reports := false
		select {
		case e, ok := <-ch:
			if !ok {
				return // too slow
			}
			reports = e.Kind != report.Changed
		case <-timer.C:
		case <-leaving:
			c.end()
			return
		case <-r.Context().Done():
			return
		}
		if !c.tell(reports) {
			return
		}
		timer.Reset(c.pause())
	}
}

// enter counts a stream, if there is room for it.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= maxStreams {
		return false
	}
	s.streams++
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	s.streams--
	s.mu.Unlock()
}

// access says what a request that changes something needs on this connection: "free",
// "token", or "none" if it is refused in any case.
func (s *Server) access(r *http.Request) string {
	switch p, _ := r.Context().Value(peerKey{}).(peer); {
	case p.local:
		return "free"
	case s.token == nil:
		return "none"
	}
	return "token"
}

// lastID is the mark that a client has seen last; 0: none. A page that opens its
// stream anew cannot set the header, and has a parameter for it.
func lastID(r *http.Request) int64 {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0 // not one of ours: it hears everything
	}
	return id
}

// follower is one client of the stream.
type follower struct {
	server *Server
	rc     *http.ResponseController
	w      http.ResponseWriter
	buf    bytes.Buffer

	id     int64 // of the latest mark that it has
	cursor int64 // in the history
	busy   bool  // two generations live, or an upgrade runs
}

// opening is the content of begin.
type opening struct {
	// Access is what an upgrade needs here: "free", "token" or "none".
	Access string `json:"access"`
	// Page identifies the page that this generation serves.
	Page    string          `json:"page"`
	Seconds []report.Second `json:"seconds"`
}

// glance is the content of view.
type glance struct {
	report.View
	Seconds []report.Second `json:"seconds"`
}

func (c *follower) begin(access string, after int64) bool {
	h := c.server.service.History()
	c.retry(again)
	c.put("begin", 0, opening{access, page.Version(), h.Seconds(0)})
	c.reports()
	marks, cursor := h.Marks(after)
	c.cursor, c.id = cursor, after
	c.marks(marks)
	c.view()
	return c.flush()
}

// tell sends what is new.
func (c *follower) tell(reports bool) bool {
	if reports {
		c.reports()
	}
	marks, cursor := c.server.service.History().News(c.cursor)
	c.cursor = cursor
	c.marks(marks)
	c.view()
	return c.flush()
}

// end sends the rest, and when to go on: at once, if there is a generation that serves
// now. A service that stops has none.
func (c *follower) end() {
	if state := c.server.service.Status().State; state == "upgrading" || state == "draining" {
		c.retry(atOnce)
	}
	c.tell(false)
}

func (c *follower) reports() {
	list := c.server.service.Reports()
	list = list[max(0, len(list)-lastReports):]
	if list == nil {
		list = []report.Outcome{}
	}
	c.put("reports", 0, list)
}

// marks may include one that is older than what was sent before: the other generation
// has told of it late.
func (c *follower) marks(list []report.Mark) {
	for _, m := range list {
		c.id = max(c.id, m.ID)
		c.put("mark", c.id, m)
	}
}

func (c *follower) view() {
	v := c.server.look()
	c.busy = len(v.Lives) > 1 || v.Upgrade != nil && v.Upgrade.Result == report.Running
	c.put("view", 0, glance{v, c.server.service.History().Seconds(v.Time.Unix() - 3)})
}

// pause is the time until the next view.
func (c *follower) pause() time.Duration {
	now := time.Now()
	due := now.Add(-lateness).Truncate(time.Second).Add(time.Second + lateness).Sub(now)
	if c.busy {
		return min(due, busyTick)
	}
	return due
}

func (c *follower) retry(d time.Duration) {
	fmt.Fprintf(&c.buf, "retry: %d\n\n", d.Milliseconds())
}

// put frames one event. JSON has no line breaks, so that it is one data line.
func (c *follower) put(event string, id int64, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return // what we send ourselves always can
	}
	if id != 0 {
		fmt.Fprintf(&c.buf, "id: %d\n", id)
	}
	fmt.Fprintf(&c.buf, "event: %s\ndata: %s\n\n", event, b)
}

func (c *follower) flush() bool {
	defer c.buf.Reset()
	if c.buf.Cap() > maxBuffer {
		defer func() { c.buf = bytes.Buffer{} }() // the beginning is longer than what follows
	}
	_ = c.rc.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.w.Write(c.buf.Bytes()); err != nil {
		return false
	}
	return c.rc.Flush() == nil
}

// maxBuffer is what a stream keeps from one view to the next.
const maxBuffer = 32 << 10
