package upgrade_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
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
