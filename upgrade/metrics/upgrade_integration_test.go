//go:build integration && linux

package metrics_test

import (
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestNoCounterFalls scrapes without a pause through upgrades, failures, a rollback and
// the death of a generation on trial.
func TestNoCounterFalls(t *testing.T) {
	x := startRig(t, "--canary", "300ms", "--probation", "500ms",
		"--rule", "success >= 90% over 1s min 20", "--rule", "p95 <= 2x old or 50ms over 1s min 20")
	w := watch(x.admin)
	x.load()
	for range 3 {
		x.good()
	}
	x.bad("exits", "start")
	x.good()
	x.bad("sick", "probation")
	x.good()
	tally := x.end()
	var sent int64
	require.Eventually(t, func() bool { // a WebSocket is counted when its handler has returned
		families, err := scrape(http.DefaultClient, x.admin)
		return err == nil && int64(requests(families, "/ws", "101")) == sentAs(tally, load.WebSocket)
	}, 5*time.Second, 10*time.Millisecond)
	families, err := scrape(http.DefaultClient, x.admin)
	require.NoError(t, err)
	for route, kind := range map[string]load.Kind{"/echo": load.Echo, "/": load.Hello} {
		require.Equal(t, sentAs(tally, kind), int64(requests(families, route, "200")), route)
		sent += sentAs(tally, kind)
	}
	now := counters(families)
	require.Equal(t, 5.0, now["holdfast_upgrades_total outcome=succeeded"])
	require.Equal(t, 2.0, now["holdfast_upgrades_total outcome=failed"])
	require.Equal(t, 1.0, now["holdfast_upgrade_failures_total phase=probation"])
	require.Positive(t, now["holdfast_connections_moved_total"])
	require.Positive(t, now["process_cpu_seconds_total"])
	scrapes, faults := w.stop()
	http.DefaultClient.CloseIdleConnections()
	require.Empty(t, faults)
	t.Logf("%d requests and %d WebSockets, counted exactly over 5 upgrades and 2 failed ones; %d scrapes, nothing fell",
		sent, sentAs(tally, load.WebSocket), scrapes)
	x.stop()
}

// TestNoCounterFallsWhenAGenerationIsKilled: on trial, and while it drains. What it had
// counted since its last word may be missing, but what was shown stays.
func TestNoCounterFallsWhenAGenerationIsKilled(t *testing.T) {
	x := startRig(t, "--probation", "2s", "--rule", "success >= 1%")
	x.load()
	w := watch(x.admin)
	pid := x.p.Version().PID
	require.NoError(t, syscall.Kill(pid, syscall.SIGUSR2))
	var victim int
	require.Eventually(t, func() bool { // the new one answers
		v, err := load.AskVersion(t.Context(), x.p.Addr("http"))
		victim = v.PID
		return err == nil && victim != pid
	}, 20*time.Second, 5*time.Millisecond)
	x.flows() // it counts
	require.NoError(t, syscall.Kill(victim, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(x.cmd.PIDFile + ".state")
		return err == nil && strings.Contains(string(b), `"result":"failed"`)
	}, 20*time.Second, 5*time.Millisecond)
	x.r.Stop() // it has lost what the victim held

	// The other way round: the old one dies in its drain, in which a request keeps it.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	lost := make(chan error, 1)
	go func() {
		resp, err := client.Get("http://" + x.p.Addr("http").Address + "/slow?ms=20000")
		if err == nil {
			_ = resp.Body.Close()
		}
		lost <- err
	}()
	shown := func(name string) float64 {
		families, err := scrape(client, x.admin)
		require.NoError(t, err)
		return families[name].GetMetric()[0].GetGauge().GetValue()
	}
	require.Eventually(t, func() bool { return shown("holdfast_http_requests_in_flight") == 1 }, 20*time.Second, 5*time.Millisecond)
	_, err := x.p.Upgrade(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return shown("holdfast_drain_connections") == 1 }, 20*time.Second, 5*time.Millisecond,
		"the new one answers, and has heard from the old one")
	require.Equal(t, 1.0, shown("holdfast_predecessors"))
	require.Equal(t, 1.0, shown("holdfast_http_requests_in_flight"), "of both generations")
	require.InDelta(t, 30, shown("holdfast_drain_remaining_seconds"), 10)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Error(t, <-lost)
	require.Eventually(t, func() bool { return shown("holdfast_predecessors") == 0 }, 20*time.Second, 5*time.Millisecond)
	require.Zero(t, shown("holdfast_http_requests_in_flight"))
	require.Zero(t, shown("holdfast_drain_remaining_seconds"))
	scrapes, faults := w.stop()
	require.Empty(t, faults)
	t.Logf("%d scrapes, nothing fell", scrapes)
}

// TestWhatADrainCounts is inherited, though nobody has scraped meanwhile.
func TestWhatADrainCounts(t *testing.T) {
	x := startRig(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	inFlight := func() float64 {
		families, err := scrape(client, x.admin)
		require.NoError(t, err)
		return families["holdfast_http_requests_in_flight"].GetMetric()[0].GetGauge().GetValue()
	}
	slow := load.Workload{Kind: load.Slow, Conns: 8, MaxRequests: 8, Addr: x.p.Addr("http"), Duration: time.Second}
	r, err := load.New(slow)
	require.NoError(t, err)
	r.Start(t.Context())
	require.Eventually(t, func() bool { return inFlight() == 8 }, 20*time.Second, 5*time.Millisecond)
	u, err := x.p.Upgrade(t.Context())
	require.NoError(t, err)
	require.Zero(t, r.Snapshot().Total().Answered, "they are the old generation's, which drains")
	require.NoError(t, x.p.WaitGone(t.Context(), u.OldPID))
	tally := r.Wait()
	require.NoError(t, tally.Err())
	families, err := scrape(client, x.admin)
	require.NoError(t, err)
	require.Equal(t, 8.0, requests(families, "/slow", "200"))
	x.stop()
}
