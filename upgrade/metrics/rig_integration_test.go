//go:build integration && linux

package metrics_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/metrics"
)

// releases are built once.
var releases = sync.OnceValue(func() error {
	var err error
	if metrics.BuildDir, err = os.MkdirTemp("", "holdfast-metrics-"); err != nil {
		return err
	}
	for name, pkg := range map[string]string{"good": ".", "exits": "./testdata/releases/exits", "sick": "./testdata/releases/sick"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(metrics.BuildDir, name), pkg)
		cmd.Dir = "../.."
		if b, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w: %s", pkg, err, b)
		}
	}
	return nil
})

// freePort is an address on loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, ln.Close()) }()
	return ln.Addr().String()
}

// rig is a server with an admin listener on TCP, under load.
type rig struct {
	t     *testing.T
	dir   string
	cmd   load.Command
	p     *load.Process
	r     *load.Runner
	admin string
}

func startRig(t *testing.T, args ...string) *rig {
	t.Helper()
	x := &rig{t: t, dir: t.TempDir(), admin: freePort(t)}
	require.NoError(t, releases())
	require.NoError(t, os.WriteFile(filepath.Join(x.dir, "illness"), []byte("slow 100"), 0o600))
	x.ship("good")
	x.cmd = load.Serve(filepath.Join(x.dir, "holdfast"), x.dir, "127.0.0.1:0")
	x.cmd.Args = append(x.cmd.Args, append(args, "--admin", x.admin)...)
	p, err := x.cmd.Start(context.Background())
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	x.p = p
	return x
}

// load begins to send.
func (x *rig) load() {
	x.t.Helper()
	addr := x.p.Addr("http")
	r, err := load.New(
		load.Workload{Kind: load.Echo, Conns: 16, Pause: 10 * time.Millisecond, Addr: addr},
		load.Workload{Name: "hello", Kind: load.Hello, Conns: 4, NewConn: true, Pause: 20 * time.Millisecond, Addr: addr},
		load.Workload{Kind: load.WebSocket, Conns: 4, Pause: 20 * time.Millisecond, Addr: addr})
	require.NoError(x.t, err)
	r.Start(context.Background())
	x.t.Cleanup(func() { r.Stop() })
	x.r = r
	x.flows()
}

// flows waits until the load goes through whoever serves now.
func (x *rig) flows() {
	x.t.Helper()
	was := x.r.Snapshot().Total().Answered
	require.Eventually(x.t, func() bool { return x.r.Snapshot().Total().Answered > was+200 }, time.Minute, 5*time.Millisecond)
}

// ship puts a release where the server's binary is.
func (x *rig) ship(name string) {
	x.t.Helper()
	to := filepath.Join(x.dir, "holdfast")
	require.NoError(x.t, os.RemoveAll(to+".new"))
	require.NoError(x.t, os.Link(filepath.Join(metrics.BuildDir, name), to+".new"))
	require.NoError(x.t, os.Rename(to+".new", to))
}

// good upgrades to a release that is well.
func (x *rig) good() {
	x.t.Helper()
	x.ship("good")
	u, err := x.p.Upgrade(context.Background())
	require.NoError(x.t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(x.t, x.p.WaitGone(ctx, u.OldPID))
	x.flows()
}

// bad upgrades to a release that fails in a phase.
func (x *rig) bad(name, phase string) {
	x.t.Helper()
	x.ship(name)
	pid, err := upgrade.ReadPIDFile(x.cmd.PIDFile)
	require.NoError(x.t, err)
	require.NoError(x.t, syscall.Kill(pid, syscall.SIGUSR2))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = upgrade.Wait(ctx, x.cmd.PIDFile, pid)
	require.ErrorContains(x.t, err, "phase "+phase)
	x.flows()
}

// end stops load and server, and returns what was sent. Nothing may have been lost.
func (x *rig) end() load.Tally {
	x.t.Helper()
	tally := x.r.Stop()
	require.NoError(x.t, tally.Err())
	return tally
}

func (x *rig) stop() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(x.t, x.p.Stop(ctx))
}

// scrape asks once. client decides whether on a kept connection.
func scrape(client *http.Client, admin string) (map[string]*dto.MetricFamily, error) {
	resp, err := client.Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	return parser.TextToMetricFamilies(resp.Body)
}

// counters are all series of a scrape that must not fall.
func counters(families map[string]*dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for name, f := range families {
		for _, m := range f.Metric {
			key := name
			for _, l := range m.Label {
				key += " " + l.GetName() + "=" + l.GetValue()
			}
			switch {
			case m.Counter != nil:
				all[key] = m.Counter.GetValue()
			case m.Summary != nil:
				all[key+" count"], all[key+" sum"] = float64(m.Summary.GetSampleCount()), m.Summary.GetSampleSum()
			case m.Histogram != nil:
				all[key+" count"], all[key+" sum"] = float64(m.Histogram.GetSampleCount()), m.Histogram.GetSampleSum()
				for _, b := range m.Histogram.Bucket {
					all[key+" le="+time.Duration(b.GetUpperBound()*1e9).String()] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return all
}

// watcher scrapes again and again, one after the other, on new connections and on a kept
// one in turn, and notes whatever falls, is missing or fails.
type watcher struct {
	wg      sync.WaitGroup
	done    chan struct{}
	scrapes int
	faults  []string
}

func watch(admin string) *watcher {
	w := &watcher{done: make(chan struct{})}
	w.wg.Go(func() {
		kept := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
		fresh := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		defer kept.CloseIdleConnections()
		last := map[string]float64{}
		tick := time.NewTicker(3 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.done:
				return
			case <-tick.C:
			}
			client := []*http.Client{kept, fresh}[w.scrapes%2]
			w.scrapes++
			families, err := scrape(client, admin)
			if err != nil {
				w.faults = append(w.faults, err.Error())
				continue
			}
			now := counters(families)
			for k, v := range last {
				if n, ok := now[k]; !ok || n < v {
					w.faults = append(w.faults, time.Now().Format(time.StampMilli)+" "+k)
				}
			}
			last = now
		}
	})
	return w
}

func (w *watcher) stop() (scrapes int, faults []string) {
	close(w.done)
	w.wg.Wait()
	return w.scrapes, w.faults
}

// sentAs is what the client knows of the requests of a route.
func sentAs(tally load.Tally, kind load.Kind) int64 {
	c := tally.Workloads[strings.ToLower(kind.String())]
	if kind == load.WebSocket {
		return c.Connects
	}
	return c.Answered
}

// requests is holdfast_http_requests_total of a route.
func requests(families map[string]*dto.MetricFamily, route, code string) (n float64) {
	f := families["holdfast_http_requests_total"]
	for _, m := range f.GetMetric() {
		labels := map[string]string{}
		for _, l := range m.Label {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["route"] == route && labels["code"] == code {
			n += m.Counter.GetValue()
		}
	}
	return n
}
