// A service with everything beside its requests: warm-up, shared and exclusive
// background work, stop hooks. It writes a line to the journal for each thing that
// happens. The file "mode", read anew by each generation, makes the warm-up fail
// ("cold") or hang ("stuck").
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, addrs ...string) error {
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	p, err := upgrade.New(upgrade.Config{
		PIDFile: filepath.Join(dir, "worker.pid"), Log: &log,
		WarmUpTimeout: 2 * time.Second, DrainTimeout: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	journal := func(what string) {
		f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = fmt.Fprintf(f, "%d %s\n", p.Generation(), what)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			panic(err)
		}
	}
	work := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			journal(name + " begins")
			<-ctx.Done()
			time.Sleep(50 * time.Millisecond) // takes a while to let go
			journal(name + " ends")
			return nil
		}
	}
	p.WarmUp("cache", func(ctx context.Context) error {
		mode, _ := os.ReadFile(filepath.Join(dir, "mode"))
		switch strings.TrimSpace(string(mode)) {
		case "cold":
			return errors.New("no connection to the cache")
		case "stuck":
			<-ctx.Done()
			return ctx.Err()
		}
		journal("warmed up")
		return nil
	})
	p.Go("refresher", work("shared"))
	p.GoExclusive("scheduler", work("exclusive"))
	p.OnStop("flush", func(context.Context) error { journal("flushed"); return nil })

	r := gin.New()
	r.GET("/generation", func(c *gin.Context) { c.String(http.StatusOK, "%d", p.Generation()) })
	for i, addr := range addrs {
		a, err := handoff.ParseAddress(addr)
		if err != nil {
			return err
		}
		if a.Name == "" {
			a.Name = fmt.Sprintf("listener-%d", i)
		}
		// A server of its own for each: they may differ in their settings.
		if err := p.Serve(&http.Server{Handler: r, IdleTimeout: time.Minute}, a); err != nil {
			return err
		}
	}
	return p.Run(context.Background())
}
