package health_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/health"
)

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ready") })
	return mux
}

func ExampleGate() {
	ready, err := health.ParseProbe("http GET /readyz status=200 body~ready within=5s")
	if err != nil {
		fmt.Println(err)
		return
	}
	cache := &health.Probe{Name: "cache", Check: health.Func(func(context.Context) error { return errors.New("empty") })}

	gate := health.Gate{Probes: []*health.Probe{ready}, Self: handler(), Interval: time.Millisecond}
	fmt.Println(gate.Run(context.Background()))

	gate.Probes = append(gate.Probes, cache)
	gate.Progress = func(r health.Round) {
		if r.Number == 1 {
			fmt.Println(r)
		}
	}
	gate.Deadline = 500 * time.Millisecond
	var failed *health.GateError
	if errors.As(gate.Run(context.Background()), &failed) {
		fmt.Println(failed.Probe, "-", failed.Reason)
	}
	// Output:
	// <nil>
	// round 1: probe cache: empty
	// cache - empty
}

func ExampleParseRule() {
	for _, text := range []string{"p95 <= 1.5x old or 20ms", "p95 <= 300"} {
		rule, err := health.ParseRule(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(rule)
	}
	// Output:
	// p95 <= 1.5x old or 20ms over 10s min 50
	// rule "p95 <= 300": 300: want a duration of at most 1h, such as 200ms or 5s; for example "p95 <= 300ms over 10s min 100" or "p95 <= 1.5x old or 20ms"
}

func ExampleRule_Judge() {
	rule, _ := health.ParseRule("p95 <= 1.5x old min 100")
	own := health.Snapshot{Over: 10 * time.Second, Requests: 1204, P95: 480 * time.Millisecond}
	old := health.Snapshot{Over: 10 * time.Second, Requests: 1190, P95: 120 * time.Millisecond}
	res := rule.Judge(own, &old)
	fmt.Printf("%s: %s\n", res.Verdict, res.Reason)
	// Output:
	// broken: p95 is 480 ms, more than 1.5 x the old generation's 120 ms (180 ms allowed), 1,204 requests in 10 s
}

func ExampleJudge() {
	rules, err := health.ParseRules("success >= 99%", "panics <= 0", "probe http GET /readyz fails < 3")
	if err != nil {
		fmt.Println(err)
		return
	}
	window := health.NewWindow(health.Longest(rules))
	for range 100 {
		window.Observe(http.StatusOK, 3*time.Millisecond, false)
	}
	report, err := health.Judge{
		Rules: rules, Phase: time.Second, Own: window.Snapshot, Self: handler(),
	}.Run(context.Background())
	fmt.Println(report.Verdict, report.Passed, err)
	for _, r := range report.Rules {
		fmt.Println(r.Verdict, "-", r.Rule)
	}
	// Output:
	// healthy true <nil>
	// healthy - success >= 99% over 10s min 50
	// healthy - panics <= 0 over 10s min 1
	// healthy - probe http GET /readyz fails < 3 over 10s
}

func ExampleWindow_Handler() {
	window := health.NewWindow(time.Minute)
	measured := window.Handler(handler())
	_ = http.Server{Handler: measured}

	bytes, _ := health.Encode(window.Snapshot(10*time.Second), window.Snapshot(time.Minute))
	snapshots, _ := health.Decode(bytes) // in the other generation
	fmt.Println(len(snapshots), "snapshots,", snapshots[0].Requests, "requests")
	// Output:
	// 2 snapshots, 0 requests
}
