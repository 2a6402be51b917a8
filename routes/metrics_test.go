package routes

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// counted is holdfast_http_requests_total as a scrape shows it.
func counted(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	list, err := r.Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, f := range list {
		if f.GetName() != "holdfast_http_requests_total" {
			continue
		}
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			all[strings.Join(labels, " ")] = m.Counter.GetValue()
		}
	}
	return all
}

func TestMetricsCount(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := New(Deps{Metrics: registry, Log: zerolog.Nop(), RequestTimeout: time.Minute, BodyLimit: 4})
	r.GET("/panic/:how", func(c *gin.Context) {
		if c.Param("how") == "abort" {
			panic(http.ErrAbortHandler)
		}
		panic("oops")
	})
	r.GET("/odd", func(c *gin.Context) { c.Status(777) })
	srv := start(t, r)
	for _, q := range []struct{ method, path, body string }{
		{"GET", "/", ""},
		{"GET", "/?token=1", ""},
		{"HEAD", "/", ""},
		{"POST", "/echo", "too much"},
		{"GET", "/panic/loud", ""},
		{"GET", "/nowhere/1", ""},
		{"GET", "/nowhere/2", ""},
		{"DELETE", "/echo", ""},
		{"BREW", "/pot", ""},
		{"STIR", "/pot", ""},
		{"GET", "/odd", ""},
	} {
		do(t, srv, q.method, q.path, q.body)
	}
	_, err := http.Get(srv.URL + "/panic/abort") //nolint:bodyclose // there is none
	require.Error(t, err)
	require.Eventually(t, func() bool { // the client sees the end of the connection first
		return counted(t, registry)["500 GET /panic/:how"] == 2
	}, 5*time.Second, time.Millisecond)
	require.Equal(t, map[string]float64{
		"200 GET /": 2, "200 HEAD /": 1, "413 POST /echo": 1, "500 GET /panic/:how": 2, "other GET /odd": 1,
		"404 GET unmatched": 2, "405 DELETE unmatched": 1, "404 other unmatched": 2,
	}, counted(t, registry))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	_, err = Metrics(registry)
	require.ErrorContains(t, err, "routes: metrics: duplicate")
}

// TestMetricsAreBounded sends what nobody has foreseen: the series do not multiply.
func TestMetricsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := New(Deps{Metrics: registry, Log: zerolog.Nop()})
	for i := range 2000 {
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(fmt.Sprintf("M%d", i), fmt.Sprintf("/p%d?q=%d", i, i), nil))
	}
	require.Equal(t, map[string]float64{"404 other unmatched": 2000}, counted(t, registry))
}

// discard is a response writer that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// plainEngine answers without a body, with the metrics or without.
func plainEngine(t testing.TB, metrics bool) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	if metrics {
		m, err := Metrics(prometheus.NewRegistry())
		require.NoError(t, err)
		r.Use(m)
	}
	r.GET("/orders/:id", func(c *gin.Context) { c.Status(http.StatusNoContent) })
	return r
}

func TestMetricsDoNotAllocate(t *testing.T) {
	q := httptest.NewRequest(http.MethodGet, "/orders/17", nil)
	var allocs [2]float64
	for i, metrics := range []bool{false, true} {
		r, w := plainEngine(t, metrics), discard{http.Header{}}
		allocs[i] = testing.AllocsPerRun(2000, func() { r.ServeHTTP(w, q) })
	}
	require.Equal(t, allocs[0], allocs[1], "the middleware adds none")
}

func BenchmarkMetrics(b *testing.B) {
	q := httptest.NewRequest(http.MethodGet, "/orders/17", nil)
	for _, metrics := range []bool{false, true} {
		name := map[bool]string{false: "plain", true: "metrics"}[metrics]
		b.Run(name, func(b *testing.B) {
			r, w := plainEngine(b, metrics), discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				r.ServeHTTP(w, q)
			}
		})
	}
}
