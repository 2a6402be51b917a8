//go:build integration && linux

package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

const companions = "../../systemd/companions"

// TestPromtool has the real tool look at what is delivered, and at what is exposed.
func TestPromtool(t *testing.T) {
	promtool := loadtest.Tool(t, "promtool")
	run := func(stdin []byte, args ...string) {
		t.Helper()
		cmd := exec.Command(promtool, args...)
		cmd.Stdin = strings.NewReader(string(stdin))
		b, err := cmd.CombinedOutput()
		require.NoError(t, err, "promtool %s: %s", strings.Join(args, " "), b)
		if stdin != nil {
			require.Empty(t, string(b), "nothing to complain about")
		}
	}
	run(nil, "check", "config", filepath.Join(companions, "prometheus.yml"))
	run(nil, "check", "rules", filepath.Join(companions, "prometheus-rules.yml"))
	run(nil, "test", "rules", "../../testdata/prometheus/rules-test.yml")

	x := startRig(t)
	x.load()
	x.good()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + x.admin + "/metrics")
	require.NoError(t, err)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, errors.Join(err, resp.Body.Close()))
	run(b, "check", "metrics")
	x.end()
	x.stop()
}

// TestEachAlertIsTested: no rule without a case that fires.
func TestEachAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(companions, "prometheus-rules.yml"))
	require.NoError(t, err)
	cases, err := os.ReadFile("../../testdata/prometheus/rules-test.yml")
	require.NoError(t, err)
	n := 0
	for line := range strings.Lines(string(rules)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- alert: "); ok {
			n++
			require.Contains(t, string(cases), "alertname: "+name+"\n")
		}
	}
	require.Positive(t, n)
}

// interval is that of the scrapes in the test: short, so that some fall into each phase
// of an upgrade.
const interval = 200 * time.Millisecond

// prometheus is a real one.
type prometheus struct {
	t    *testing.T
	addr string
}

// startPrometheus runs it with the delivered configuration, but for the target, the
// path of the rules and the intervals.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	binary, dir := loadtest.Tool(t, "prometheus"), t.TempDir()
	b, err := os.ReadFile(filepath.Join(companions, "prometheus.yml"))
	require.NoError(t, err)
	rules, err := filepath.Abs(filepath.Join(companions, "prometheus-rules.yml"))
	require.NoError(t, err)
	config := string(b)
	for _, sub := range [][2]string{
		{"\"127.0.0.1:9180\"", strconv.Quote(target)},
		{"- prometheus-rules.yml", "- " + rules},
		{"scrape_interval: 15s", "scrape_interval: 200ms\n  scrape_timeout: 200ms"},
		{"evaluation_interval: 15s", "evaluation_interval: 200ms"},
	} {
		require.Equal(t, 1, strings.Count(config, sub[0]), sub[0])
		config = strings.Replace(config, sub[0], sub[1], 1)
	}
	file := filepath.Join(dir, "prometheus.yml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := &prometheus{t, freePort(t)}
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(binary, "--config.file", file, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", p.addr, "--log.level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	require.NoError(t, log.Close())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("prometheus: %s", b)
		}
	})
	require.Eventually(t, func() bool { return len(p.query(`up{job="holdfast"} == 1`)) == 1 },
		20*time.Second, 50*time.Millisecond, "the first scrape")
	return p
}

// series is one of a query's result: samples as Prometheus has stored them.
type series struct {
	Metric map[string]string `json:"metric"`
	Value  sample            `json:"value"`
	Values []sample          `json:"values"`
}

// sample is a time in seconds and a value.
type sample struct{ at, value float64 }

func (s *sample) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &[]any{&s.at, &text}); err != nil {
		return err
	}
	var err error
	s.value, err = strconv.ParseFloat(text, 64)
	return err
}

// get asks the API (prometheus.io/docs/prometheus/latest/querying/api).
func (p *prometheus) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// query gives nothing while Prometheus is not up.
func (p *prometheus) query(q string) []series {
	var data struct {
		Result []series `json:"result"`
	}
	_ = p.get("/api/v1/query?query="+url.QueryEscape(q), &data)
	return data.Result
}

// firing are the alerts that fire now.
func (p *prometheus) firing() (names []string) {
	var data struct {
		Alerts []struct {
			State  string            `json:"state"`
			Labels map[string]string `json:"labels"`
		} `json:"alerts"`
	}
	require.NoError(p.t, p.get("/api/v1/alerts", &data))
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	return names
}

// TestPrometheusSeesNoGap has a real one scrape through upgrades, a failed one and a
// rollback, under load.
func TestPrometheusSeesNoGap(t *testing.T) {
	loadtest.Tool(t, "prometheus")
	x := startRig(t, "--probation", "700ms",
		"--rule", "success >= 90% over 1s min 20", "--rule", "p95 <= 2x old or 50ms over 1s min 20")
	p := startPrometheus(t, x.admin)
	x.load()
	for range 3 {
		x.good()
	}
	require.Empty(t, p.firing(), "three upgrades in good order")
	x.bad("exits", "start")
	require.Eventually(t, func() bool { return slices.Equal(p.firing(), []string{"HoldfastUpgradeFailed"}) },
		10*time.Second, 50*time.Millisecond)
	x.bad("sick", "probation")
	x.good()
	tally := x.end()

	// The counts, to the last request.
	count := func(route, code string) int64 {
		r := p.query(fmt.Sprintf(`sum(holdfast_http_requests_total{route=%q, code=%q})`, route, code))
		if len(r) != 1 {
			return -1
		}
		return int64(r[0].Value.value)
	}
	for route, kind := range map[string]load.Kind{"/echo": load.Echo, "/": load.Hello, "/ws": load.WebSocket} {
		code := map[bool]string{true: "101", false: "200"}[kind == load.WebSocket]
		require.Eventually(t, func() bool { return count(route, code) == sentAs(tally, kind) }, 5*time.Second, 50*time.Millisecond,
			"%s: %d were sent, Prometheus knows of %d", route, sentAs(tally, kind), count(route, code))
	}

	// Every scrape has succeeded, and there were as many as there should be.
	up := p.query(`up{job="holdfast"}[10m]`)
	require.Len(t, up, 1)
	scrapes := up[0].Values
	for _, s := range scrapes {
		require.Equal(t, 1.0, s.value, "up at %f", s.at)
	}
	took := scrapes[len(scrapes)-1].at - scrapes[0].at
	require.InDelta(t, took/interval.Seconds()+1, len(scrapes), 1, "scrapes in %f s", took)

	// No counter has fallen, nor been away.
	counters := p.query(`{__name__=~".+_(total|count|bucket|sum)", job="holdfast"}[10m]`)
	samples := 0
	for _, s := range counters {
		for i := range s.Values[1:] {
			require.GreaterOrEqual(t, s.Values[i+1].value, s.Values[i].value, "%v at %f", s.Metric, s.Values[i+1].at)
		}
		samples += len(s.Values)
		lasted := s.Values[len(s.Values)-1].at - s.Values[0].at
		require.InDelta(t, lasted/interval.Seconds()+1, len(s.Values), 1, "%v", s.Metric)
		require.InDelta(t, scrapes[len(scrapes)-1].at, s.Values[len(s.Values)-1].at, 1, "%v is there to the end", s.Metric)
	}
	require.Greater(t, len(counters), 200)
	names := map[string]bool{}
	for _, s := range counters {
		names[s.Metric["__name__"]] = true
	}
	for name := range names {
		resets := p.query(fmt.Sprintf(`sum(resets(%s{job="holdfast"}[10m]))`, name))
		require.Len(t, resets, 1, name)
		require.Zero(t, resets[0].Value.value, name)
	}
	require.Equal(t, 4.0, p.query(`changes(holdfast_generation[10m])`)[0].Value.value)
	t.Logf("%d scrapes, all up; %d series with %d samples, none fell; %d requests counted exactly; 4 upgrades, 1 failed, 1 rolled back",
		len(scrapes), len(counters), samples, tally.Total().Answered-tally.Workloads["websocket"].Answered+sentAs(tally, load.WebSocket))
	x.stop()
}
