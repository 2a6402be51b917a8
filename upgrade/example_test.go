package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade"
)

// The whole of a service with one handler. `kill -USR2` replaces its binary.
func ExampleRun() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	if err := upgrade.Run(context.Background(), handler, upgrade.Config{Addr: ":8080", PIDFile: "/run/app/app.pid"}); err != nil {
		log.Fatal(err)
	}
}

// A service with a counter of its own, which goes on when the binary is replaced: GET
// /metrics on the admin listener shows it beside those of this module.
func ExampleConfig_metrics() {
	registry := prometheus.NewRegistry()
	orders := prometheus.NewCounter(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Orders taken."})
	registry.MustRegister(orders)
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { orders.Inc() })
	if err := upgrade.Run(context.Background(), handler, upgrade.Config{Addr: ":8080", PIDFile: "/run/app/app.pid", Metrics: registry}); err != nil {
		log.Fatal(err)
	}
}

// A service with a server of its own settings, and work beside its requests.
func ExampleNew() {
	logger := zerolog.New(os.Stderr)
	p, err := upgrade.New(upgrade.Config{PIDFile: "/run/app/app.pid", Log: &logger})
	if err != nil {
		log.Fatal(err)
	}
	p.WarmUp("cache", func(context.Context) error { return errors.New("an error here leaves the old generation in place") })
	p.GoExclusive("scheduler", func(ctx context.Context) error {
		<-ctx.Done() // the drain has begun
		return nil
	})
	address, err := handoff.ParseAddress("http=:8080")
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Serve(&http.Server{ReadHeaderTimeout: 5 * time.Second}, address); err != nil {
		log.Fatal(err)
	}
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// Where a service listens, and where an operator asks for upgrades.
func ExampleConfig_Addresses() {
	cfg := upgrade.Config{Addrs: []string{":8080", "unix:/run/app/app.sock"}, PIDFile: "/run/app/app.pid"}
	for _, list := range []func() ([]handoff.Address, error){cfg.Addresses, cfg.AdminAddresses} {
		addresses, err := list()
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, a := range addresses {
			fmt.Println(a)
		}
	}
	fmt.Println(cfg.ReportsFile())
	// Output:
	// http=:8080
	// http-2=unix:/run/app/app.sock
	// admin=unix:/run/app/app.pid.admin
	// /run/app/app.pid.reports
}

// A counter that the next generation goes on with.
func ExampleProcess_Carry() {
	p, err := upgrade.New(upgrade.Config{PIDFile: "/run/app/app.pid"})
	if err != nil {
		log.Fatal(err)
	}
	var hits atomic.Int64
	if err := p.Carry(handoff.State{
		Name: "hits", Version: 1,
		Save: func() ([]byte, error) { return strconv.AppendInt(nil, hits.Load(), 10), nil },
		Load: func(b []byte) error {
			n, err := strconv.ParseInt(string(b), 10, 64)
			hits.Store(n)
			return err
		},
	}); err != nil {
		log.Fatal(err)
	}
}

// The logger of a handler: that of Config, with what says who wrote the line.
func ExampleProcess_Log() {
	http.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) {
		zerolog.Ctx(r.Context()).Info().Msg("seen") // {"level":"info","pid":7,"build":"1.0","generation":2,…
	})
}
