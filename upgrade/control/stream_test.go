package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// sse is one event of a stream, or a retry field alone.
type sse struct {
	id, event, data, retry string
}

// follow opens a stream as a browser does, and gives its events, read by the rules of
// WHATWG HTML, section 9.2.6.
func follow(t *testing.T, a handoff.Address, query, lastID string) (status int, header http.Header, next func() (sse, bool)) {
	t.Helper()
	ctx := bounded(t)
	c := NewClient(a, "")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/events"+query, http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := c.http.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return resp.StatusCode, resp.Header, func() (e sse, ok bool) {
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "":
				return e, true
			case "id":
				e.id = value
			case "event":
				e.event = value
			case "data":
				require.Empty(t, e.data, "one line")
				e.data = value
			case "retry":
				e.retry = value
			default:
				t.Errorf("line %q", lines.Text())
			}
		}
		return e, false
	}
}

// until reads on to an event with that name.
func until(t *testing.T, next func() (sse, bool), event string) sse {
	t.Helper()
	for {
		e, ok := next()
		require.True(t, ok, "the stream has ended before %s", event)
		if e.event == event {
			return e
		}
	}
}

func TestTheStreamBegins(t *testing.T) {
	f, _, _, a := serve(t, "tcp", "secret")
	f.reports = []report.Outcome{{Number: 1, Result: report.Failed, Reason: "a\nb"}}
	f.history.Put(report.Second{At: 5, PID: 7, Requests: 3})
	f.history.Note(report.Mark{Kind: report.PhaseBegan, Upgrade: 1, Phase: report.Spawn})
	f.view = report.View{Lives: []report.Life{{Generation: 3, PID: 7}}}
	status, header, next := follow(t, a, "", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "text/event-stream", header.Get("Content-Type"))
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	require.Equal(t, "Accept", header.Get("Vary"))

	e, _ := next()
	require.Equal(t, sse{retry: "1000"}, e)
	e, _ = next()
	require.Equal(t, "begin", e.event)
	var b opening
	require.NoError(t, json.Unmarshal([]byte(e.data), &b))
	require.Equal(t, "token", b.Access)
	require.NotEmpty(t, b.Page)
	require.Equal(t, []report.Second{{At: 5, PID: 7, Requests: 3}}, b.Seconds)
	e, _ = next()
	require.Equal(t, "reports", e.event)
	require.JSONEq(t, mustJSON(t, f.reports), e.data)
	e, _ = next()
	require.Equal(t, "mark", e.event)
	marks, _ := f.history.Marks(0)
	require.Equal(t, strconv.FormatInt(marks[0].ID, 10), e.id)
	e, _ = next()
	require.Equal(t, "view", e.event)
	require.Empty(t, e.id)
	var v glance
	require.NoError(t, json.Unmarshal([]byte(e.data), &v))
	require.Equal(t, 3, v.Lives[0].Generation)

	began := time.Now()
	until(t, next, "view")
	require.Less(t, time.Since(began), 3*time.Second, "about each second")
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

func TestTheStreamResumes(t *testing.T) {
	f, _, _, a := serve(t, "tcp", "")
	for n := range 3 {
		f.history.Note(report.Mark{Kind: report.PhaseBegan, Upgrade: n + 1, Phase: report.Spawn})
	}
	marks, _ := f.history.Marks(0)
	second := strconv.FormatInt(marks[1].ID, 10)
	for name, tc := range map[string]struct {
		query, header string
		upgrades      []int
	}{
		"new":           {"", "", []int{1, 2, 3}},
		"header":        {"", second, []int{3}},
		"parameter":     {"?after=" + second, "", []int{3}},
		"both":          {"?after=0", second, []int{3}},
		"not ours":      {"", "abc", []int{1, 2, 3}},
		"nothing new":   {"", strconv.FormatInt(marks[2].ID, 10), nil},
		"of the future": {"", strconv.FormatInt(marks[2].ID+1e9, 10), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, next := follow(t, a, tc.query, tc.header)
			var got []int
			for {
				e, ok := next()
				require.True(t, ok)
				if e.event == "view" {
					break
				}
				if e.event == "mark" {
					var m report.Mark
					require.NoError(t, json.Unmarshal([]byte(e.data), &m))
					got = append(got, m.Upgrade)
				}
			}
			require.Equal(t, tc.upgrades, got)
		})
	}
}

func TestTheStreamTellsAtOnce(t *testing.T) {
	f, _, _, a := serve(t, "tcp", "")
	_, _, next := follow(t, a, "", "")
	until(t, next, "view")
	f.mu.Lock()
	f.reports = []report.Outcome{{Number: 8, Result: report.Succeeded}}
	f.mu.Unlock()
	require.True(t, f.history.Follow(report.Outcome{Number: 8, Result: report.Running, Phase: report.Gate}))
	f.feed.Publish(report.Event{Kind: report.Changed})
	mark := until(t, next, "mark")
	require.Contains(t, mark.data, `"gate"`)

	// The other generation has told late of something that was before.
	f.history.Learn(report.Past{Marks: []report.Mark{{ID: 5, Kind: report.PhaseBegan, Upgrade: 7, Phase: report.Drain}}})
	f.feed.Publish(report.Event{Kind: report.Ended})
	require.Contains(t, until(t, next, "reports").data, `"number":8`)
	late := until(t, next, "mark")
	require.Contains(t, late.data, `"id":5`)
	require.Equal(t, mark.id, late.id, "the client comes again with the latest")
}

func TestHeadsAndForms(t *testing.T) {
	_, _, _, a := serve(t, "tcp", "")
	status, body := raw(t, a, "HEAD /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n")
	require.Equal(t, 200, status)
	require.Empty(t, body)
	status, body = raw(t, a, "HEAD /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	require.Equal(t, 200, status)
	require.Empty(t, body)
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "application/x-ndjson": false, "text/event-stream": true,
		"text/html, Text/Event-Stream;q=0.9": true, "text/event-streams": false,
	} {
		require.Equal(t, want, wantsSSE(&http.Request{Header: http.Header{"Accept": {accept}}}), accept)
	}
}

// Many pages share a view, and there is an end to them.
func TestStreamsAreBounded(t *testing.T) {
	f, s, _, a := serve(t, "tcp", "")
	before := f.views
	for range maxStreams {
		_, _, next := follow(t, a, "", "")
		until(t, next, "view")
	}
	status, _, _ := follow(t, a, "", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	f.mu.Lock()
	views := f.views - before
	f.mu.Unlock()
	require.Less(t, views, maxStreams, "not one for each")
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, maxStreams, s.streams)
}

// A client that does not read holds neither memory nor the stream for long: its writes
// have a deadline.
func TestAStreamThatIsNotReadEnds(t *testing.T) {
	f := newFake()
	s := NewServer(f, "")
	w := &deaf{header: http.Header{}}
	r, err := http.NewRequestWithContext(bounded(t), http.MethodGet, "/events", http.NoBody)
	require.NoError(t, err)
	s.stream(w, r)
	require.NotEmpty(t, w.deadlines)
	require.WithinDuration(t, time.Now().Add(writeTimeout), w.deadlines[0], time.Minute/4)
	require.True(t, w.deadlines[len(w.deadlines)-1].IsZero(), "the next request on the connection has none")
	require.Zero(t, s.streams)
}

// deaf is a response writer whose deadline passes.
type deaf struct {
	header    http.Header
	deadlines []time.Time
}

func (d *deaf) Header() http.Header                { return d.header }
func (d *deaf) WriteHeader(int)                    {}
func (d *deaf) Write([]byte) (int, error)          { return 0, context.DeadlineExceeded }
func (d *deaf) SetWriteDeadline(t time.Time) error { d.deadlines = append(d.deadlines, t); return nil }

// At its end a stream sends its client to the next generation at once, if there is one.
func TestTheStreamEnds(t *testing.T) {
	for state, want := range map[string]string{
		"upgrading": "retry: 20\n\nevent: view\n", "draining": "retry: 20\n\nevent: view\n",
		"stopping": "event: view\n", "stopped": "event: view\n",
	} {
		f := newFake()
		f.state = state
		w := httptest.NewRecorder()
		c := &follower{server: NewServer(f, ""), rc: http.NewResponseController(w), w: w}
		c.end()
		require.True(t, strings.HasPrefix(w.Body.String(), want), w.Body.String())
	}
}

// A web page of another site can neither read nor change anything: over TCP, nor through
// a tunnel to the Unix socket, where no token is asked for.
func TestOtherSites(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, tc := range []struct {
			method, path, host, header string
			tcp, unix                  int
		}{
			{"GET", "/", "localhost:9180", "", 200, 200},
			{"GET", "/", "127.0.0.1:9180", "Sec-Fetch-Site: cross-site\r\n", 200, 200}, // a link
			{"GET", "/status", "[::1]:9180", "Sec-Fetch-Site: same-origin\r\n", 200, 200},
			{"GET", "/status", "localhost", "Sec-Fetch-Site: cross-site\r\n", 403, 403},
			{"GET", "/status", "evil.example", "", 403, 403},
			{"GET", "/", "evil.example:9180", "", 403, 403},
			{"GET", "/status", "x", "", 403, 200}, // curl --unix-socket
			{"POST", "/upgrade?wait=0", "x", "", 403, 202},
			{"POST", "/upgrade?wait=0", "localhost:9180", "Sec-Fetch-Site: cross-site\r\n", 403, 403},
			{"POST", "/upgrade?wait=0", "localhost:9180", "Origin: http://evil.example\r\n", 403, 403},
			{"POST", "/upgrade?wait=0", "localhost:9180", "Origin: null\r\n", 403, 403},
			{"POST", "/upgrade?wait=0", "localhost:9180", "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:9180\r\nAuthorization: Bearer secret\r\n", 202, 202},
		} {
			want := tc.tcp
			if network == "unix" {
				want = tc.unix
			}
			_, _, _, a := serve(t, network, "secret")
			status, _ := raw(t, a, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", tc.method, tc.path, tc.host, tc.header))
			require.Equal(t, want, status, "%s: %+v", network, tc)
		}
	}
}
