// A release of the server that behaves on command. The file in $HOLDFAST_MOOD, read as
// it starts, is what its warm-up hook takes, whatever its deadline says: "4s". While it
// runs,
//
//	GET /gate      is 503 as long as there is a file beside that one, called "shut"
//	POST /hang     makes every handler wait for ever, as a deadlock would
//	SIGUSR1        makes the owning loop wait for ever
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

var build string

type commands struct {
	Serve struct {
		settings.Server
		Config settings.File
	} `cmd:""`
	Wait struct {
		PIDFile string `name:"pid-file"`
		PID     int    `arg:"" optional:""`
	} `cmd:""`
}

func main() {
	upgrade.CaptureStderr()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "moody:", err)
		os.Exit(1)
	}
}

func run() error {
	var cli commands
	if kong.Parse(&cli, kong.DefaultEnvars("HOLDFAST")).Command() != "serve" {
		o, err := upgrade.Wait(context.Background(), cli.Wait.PIDFile, cli.Wait.PID)
		fmt.Println(o)
		return err
	}
	s := &cli.Serve
	zerolog.TimeFieldFormat = time.RFC3339Nano
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	cfg := s.Server.Config()
	cfg.Log, cfg.Build = &log, build
	cfg.ReopenLog = func() error { select {} }
	p, err := upgrade.New(cfg)
	if err != nil {
		return err
	}
	file := os.Getenv("HOLDFAST_MOOD")
	if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
		d, err := time.ParseDuration(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		p.WarmUp("cache", func(context.Context) error { time.Sleep(d); return nil })
	}
	m := &moody{shut: filepath.Join(filepath.Dir(file), "shut"), next: routes.New(routes.Deps{
		Log: p.Log(), Build: p.Build(), Generation: p.Generation(), Started: p.Started(), Ready: p.Ready,
		Leaving: handoff.Leaving, Resume: p.Resume, State: p.Carry, Relay: p.Relay, Identify: s.Identify,
		RequestTimeout: s.RequestTimeout, BodyLimit: int64(s.BodyLimit),
	})}
	if err := p.ServeHandler(m); err != nil {
		return err
	}
	return p.Run(context.Background())
}

type moody struct {
	next  http.Handler
	shut  string
	hangs atomic.Bool
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/hang":
		m.hangs.Store(true)
	case "/gate":
		if _, err := os.Stat(m.shut); err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	if m.hangs.Load() {
		select {}
	}
	m.next.ServeHTTP(w, r)
}
