package control

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control/page"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// Service is what a [Server] asks.
type Service interface {
	Status() report.Status
	Reports() []report.Outcome
	// Upgrade passes a request on. The answer comes in the channel, which has room for
	// it: nobody has to wait.
	Upgrade(Request) <-chan Answer
	Events() *Feed
	// View and History are what the status page shows.
	View() report.View
	History() *report.History
	// Judge applies the service's rules to it for a while. The error is [ErrNoRules],
	// [ErrJudging], or the cause of the end of ctx.
	Judge(ctx context.Context, length time.Duration) (health.Report, error)
	// Metrics answers a scrape.
	Metrics() http.Handler
	// LogLevel tells what is logged; SetLogLevel changes it, or says why it cannot.
	LogLevel() LogLevel
	SetLogLevel(LevelChange) (LogLevel, error)
}

// Server answers the admin listener's requests.
type Server struct {
	service Service
	token   []byte // sha256; nil: none
	mux     *http.ServeMux

	mu      sync.Mutex // guards what follows
	asking  int        // POST /upgrade that have no answer yet
	settled chan struct{}
	streams int // of the status page
	sight   sight
}

// NewServer makes a Server. token is the bearer token that changes need on TCP; empty
// refuses them there.
func NewServer(service Service, token string) *Server {
	s := &Server{service: service, mux: http.NewServeMux()}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		s.token = sum[:]
	}
	type route struct {
		method string
		serve  http.HandlerFunc
	}
	routes := map[string]route{
		"/status":  {http.MethodGet, s.status},
		"/reports": {http.MethodGet, s.reports},
		"/events":  {http.MethodGet, s.events},
		"/verify":  {http.MethodGet, s.verify},
		"/metrics": {http.MethodGet, service.Metrics().ServeHTTP},
		"/upgrade": {http.MethodPost, s.upgrade},
	}
	for _, path := range page.Paths() {
		routes[path] = route{http.MethodGet, page.Handler().ServeHTTP}
	}
	for path, h := range routes {
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if method := r.Method; method != h.method && (method != http.MethodHead || h.method != http.MethodGet) {
				w.Header().Set("Allow", h.method)
				fail(w, http.StatusMethodNotAllowed, "method_not_allowed", fmt.Sprintf("%s takes %s", r.URL.Path, h.method))
				return
			}
			if h.method != http.MethodGet && !s.mayChange(w, r) {
				return
			}
			h.serve(w, r)
		})
	}
	s.mux.HandleFunc(profilePath, s.profile)
	s.mux.HandleFunc("/log-level", s.logLevel)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "not_found", "there are /, /status, /events, /reports, /verify, /upgrade, /log-level, /metrics and /debug/pprof/")
	})
	return s
}

// ServeHTTP implements [http.Handler]. The http.Server must have [ConnContext].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, _ := r.Context().Value(peerKey{}).(peer)
	switch {
	case p.refused != "":
		fail(w, http.StatusForbidden, "forbidden", p.refused)
	case !localHost(r.Host) && (!p.local || !oneLabel(r.Host)):
		// A web page whose name has been made to point here: also at the near end of a
		// tunnel to the Unix socket.
		fail(w, http.StatusForbidden, "forbidden", "the Host header must be that of this machine: localhost or a loopback address; on the Unix socket also a name without a dot")
	case r.URL.Path != "/" && crossSite(r):
		fail(w, http.StatusForbidden, "forbidden", "this is not for the pages of other sites")
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// mayChange tells whether the request may change something, and answers it if not.
func (s *Server) mayChange(w http.ResponseWriter, r *http.Request) bool {
	if p, _ := r.Context().Value(peerKey{}).(peer); p.local {
		return true
	}
	if s.token == nil {
		fail(w, http.StatusForbidden, "no_token", "changes over TCP need a bearer token, and the service has no --token-file: use the Unix socket")
		return false
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Compared are digests, of one length.
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], s.token) != 1 {
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, "token_invalid", "this needs the bearer token of --token-file in the Authorization header")
		return false
	}
	return true
}

// localHost tells whether a Host header names this machine.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// oneLabel tells whether a Host header is a name that nobody can have in the public
// DNS: curl --unix-socket is used with any.
func oneLabel(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return !strings.ContainsAny(host, ".:")
}

// changes is Go's own judge of requests that a browser makes for another site.
var changes http.CrossOriginProtection

// crossSite tells whether a browser asks for the page of another site: by its Fetch
// Metadata (https://www.w3.org/TR/fetch-metadata/), and where something is to be
// changed also by the Origin header.
func crossSite(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "cross-site" || changes.Check(r) != nil
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.service.Status())
}

func (s *Server) reports(w http.ResponseWriter, _ *http.Request) {
	list := s.service.Reports()
	if list == nil {
		list = []report.Outcome{}
	}
	answer(w, http.StatusOK, list)
}

// events streams every change until the client goes or another generation serves.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if wantsSSE(r) {
		s.stream(w, r)
		return
	}
	ch, cancel := s.service.Events().Subscribe()
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	rc, enc := http.NewResponseController(w), json.NewEncoder(w)
	defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
	send := func(e report.Event) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout))
		return enc.Encode(e) == nil && rc.Flush() == nil
	}
	if st := s.service.Status(); !send(now(report.Changed, st, nil)) {
		return
	}
	leaving := handoff.Leaving(r.Context())
	for {
		select {
		case e, ok := <-ch:
			if !ok || !send(e) {
				return
			}
		case <-leaving:
			for { // what it led to is in the queue
				select {
				case e, ok := <-ch:
					if ok && send(e) {
						continue
					}
				default:
				}
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// answer writes v. A client that does not read is no matter.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, failure{Error{Code: code, Message: message}})
}

// failure is the JSON form of an error.
type failure struct {
	Error Error `json:"error"`
}

// errNotHijacked stands for a connection that cannot be taken from net/http.
var errNotHijacked = errors.New("control: more than one request on the connection")

// hijack takes a connection on which nothing more has arrived.
func hijack(w http.ResponseWriter) (net.Conn, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if rw != nil && rw.Reader.Buffered() > 0 {
		return conn, errNotHijacked
	}
	return conn, nil
}

// writeRaw answers on a connection that net/http has let go.
func writeRaw(conn net.Conn, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(conn)
	_, _ = fmt.Fprintf(w, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), len(b)+1, b)
	return w.Flush()
}

// ask counts a question that has no answer yet.
func (s *Server) ask() {
	s.mu.Lock()
	s.asking++
	s.mu.Unlock()
}

func (s *Server) answered() {
	s.mu.Lock()
	s.asking--
	if s.asking == 0 && s.settled != nil {
		close(s.settled)
		s.settled = nil
	}
	s.mu.Unlock()
}

// Settle waits until every request for an upgrade has its answer or has moved.
func (s *Server) Settle(ctx context.Context) error {
	s.mu.Lock()
	if s.asking == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.settled == nil {
		s.settled = make(chan struct{})
	}
	ch := s.settled
	s.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
