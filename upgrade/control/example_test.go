package control_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// service stands for the process, which package upgrade has: what is asked of it here.
type service struct{ control.Service }

func (*service) Status() report.Status {
	return report.Status{State: "serving", Generation: 2, PID: 7, Build: "1.0"}
}

func (*service) Metrics() http.Handler { return http.NotFoundHandler() }

func (*service) Upgrade(control.Request) <-chan control.Answer {
	ch := make(chan control.Answer, 1)
	ch <- control.Answer{Outcome: &report.Outcome{Number: 3, Result: report.Failed, Phase: report.WarmUp, Reason: "no database", From: 7}}
	return ch
}

func (*service) Judge(context.Context, time.Duration) (health.Report, error) {
	return health.Report{}, control.ErrNoRules
}

// A program asks a running service for an upgrade, and hears what became of it.
func ExampleClient() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	address := handoff.Address{Network: "unix", Addr: filepath.Join(dir, "app.pid.admin")}
	ln, err := net.Listen(address.Network, address.Addr)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := &http.Server{Handler: control.NewServer(&service{}, ""), ConnContext: control.ConnContext, ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	defer func() { _ = server.Close(); <-done }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := control.NewClient(address, "")
	status, err := client.Status(ctx)
	fmt.Println(status.State, status.Generation, err)
	outcome, err := client.Upgrade(ctx, false)
	fmt.Println(outcome, err)
	_, err = client.Verify(ctx, time.Minute)
	fmt.Println(err)
	// Output:
	// serving 2 <nil>
	// upgrade 3 failed (phase warm-up): no database; pid 7 goes on serving <nil>
	// the service has no rules to be judged by: set --rule
}
