package load_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/holdfast-go/holdfast/routes"
	"github.com/holdfast-go/holdfast/routes/load"
)

// Requests on kept and on new connections, each counted.
func ExampleRun() {
	server := httptest.NewServer(routes.New(routes.Deps{}))
	defer server.Close()
	addr := load.Addr{Network: "tcp", Address: server.Listener.Addr().String()}

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tally, err := load.Run(ctx,
		load.Workload{Kind: load.Echo, Addr: addr, Conns: 4, MaxRequests: 100},
		load.Workload{Kind: load.Hello, Addr: addr, NewConn: true, MaxRequests: 10},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	total := tally.Total()
	fmt.Println(total.Sent, "sent,", total.Answered, "answered,", total.Failed(), "lost;", total.Connects, "connections")
	fmt.Println(tally.Err())
	// Output:
	// 110 sent, 110 answered, 0 lost; 14 connections
	// <nil>
}
