package routes

import (
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-go/holdfast/handoff"
)

// Labels for what a client makes up: it must not be able to make series.
const (
	unmatchedRoute = "unmatched"
	otherLabel     = "other"
)

// durationBuckets are in seconds.
var durationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Metrics returns middleware that counts requests, and times them until their handler
// has returned:
//
//	holdfast_http_requests_total{route,method,code}
//	holdfast_http_request_duration_seconds{route,method}
//
// route is the pattern of the Gin route and "unmatched" for 404 and 405; a method that
// is not one of RFC 9110 or PATCH is "other", and so is a status out of 100 to 599. So
// there are at most as many series as routes, methods and statuses together permit,
// whatever clients send. 499 is a client that left before its answer. A connection
// that a handler has hijacked is counted when the handler returns, as 101, by the
// process that it began in, and is not timed. A request by which the
// process sees whether it still answers is not counted ([handoff.Own]); the probes of a
// gate are.
//
// It allocates nothing but for the first request of each kind. It belongs outside of
// whatever decides a status. An error says that the names are taken in the registry.
func Metrics(r prometheus.Registerer) (gin.HandlerFunc, error) {
	m := &meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_http_requests_total", Help: "Requests that have ended, by the route's pattern, method and status.",
		}, []string{"route", "method", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_http_request_duration_seconds", Help: "Time until the handler had returned, without hijacked connections.", Buckets: durationBuckets,
		}, []string{"route", "method"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.durations} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("routes: metrics: %w", err)
		}
	}
	m.known.Store(&map[kind]series{})
	return m.handle, nil
}

// meter counts requests.
type meter struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec

	mu    sync.Mutex // held by who adds to known
	known atomic.Pointer[map[kind]series]
}

// kind is what requests are told apart by.
type kind struct {
	route, method string
	status        int
}

type series struct {
	requests prometheus.Counter
	duration prometheus.Observer
}

func (m *meter) handle(c *gin.Context) {
	began := time.Now()
	finished := false
	// Deferred, so that a request that is aborted by panic is counted too.
	defer func() { m.count(c, time.Since(began), !finished) }()
	c.Next()
	finished = true
}

func (m *meter) count(c *gin.Context, took time.Duration, aborted bool) {
	if handoff.Own(c.Request.Context()) {
		return
	}
	k := kind{c.FullPath(), methodLabel(c.Request.Method), statusOf(c, aborted)}
	if k.route == "" {
		k.route = unmatchedRoute
	}
	if k.status < 100 || k.status > 599 {
		k.status = 0
	}
	s, ok := (*m.known.Load())[k]
	if !ok {
		s = m.meet(k)
	}
	s.requests.Inc()
	if k.status != http.StatusSwitchingProtocols {
		s.duration.Observe(took.Seconds())
	}
}

// meet makes the series of a kind that has not been there before. The map is copied, so
// that nobody has to lock it to read.
func (m *meter) meet(k kind) series {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := *m.known.Load()
	if s, ok := known[k]; ok {
		return s
	}
	code := otherLabel
	if k.status != 0 {
		code = strconv.Itoa(k.status)
	}
	s := series{m.requests.WithLabelValues(k.route, k.method, code), m.durations.WithLabelValues(k.route, k.method)}
	known = maps.Clone(known)
	known[k] = s
	m.known.Store(&known)
	return s
}

func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	}
	return otherLabel
}
