package demo

import (
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

// workloads is the demonstration's mix: something of everything that an upgrade can
// hurt, at a rate that leaves a two-core laptop some air.
func workloads(addr load.Addr, scale int) []load.Workload {
	return []load.Workload{
		{Name: "POST /echo, kept connections", Kind: load.Echo, Addr: addr, Conns: 16 * scale, Pause: 10 * time.Millisecond},
		{Name: "GET /, new connection each", Kind: load.Hello, Addr: addr, Conns: 4 * scale, NewConn: true, Pause: 10 * time.Millisecond},
		{Name: "GET /slow, 200 ms", Kind: load.Slow, Addr: addr, Conns: 4 * scale, Duration: 200 * time.Millisecond},
		{Name: "GET /stream, 500 ms", Kind: load.Stream, Addr: addr, Conns: 2 * scale, Duration: 500 * time.Millisecond},
		{Name: "POST /upload, 256 KiB in 300 ms", Kind: load.Upload, Addr: addr, Conns: 2 * scale, Duration: 300 * time.Millisecond},
		{Name: "WebSocket messages", Kind: load.WebSocket, Addr: addr, Conns: 4 * scale, Pause: 40 * time.Millisecond},
	}
}

// workloadOrder is the order of the report's rows.
func workloadOrder() []string {
	var names []string
	for _, w := range workloads(load.Addr{}, 1) {
		names = append(names, w.Name)
	}
	return names
}

func connections(scale int) int {
	n := 0
	for _, w := range workloads(load.Addr{}, scale) {
		n += w.Conns
	}
	return n
}
