// A release of the server that is well as long as nobody uses it. The file "illness"
// beside the PID file, read as it starts, says what is wrong with it then:
//
//	errors N   every N-th request is answered 500, and a line in the log says so
//	slow MS    every request takes so much longer
//	leak MIB   the first request makes it that much bigger
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

type commands struct {
	Serve struct {
		settings.Server
		Config settings.File
	} `cmd:""`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sick:", err)
		os.Exit(1)
	}
}

func run() error {
	var cli commands
	kong.Parse(&cli, kong.DefaultEnvars("HOLDFAST"))
	s := &cli.Serve
	zerolog.TimeFieldFormat = time.RFC3339Nano
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	cfg := s.Server.Config()
	cfg.Log, cfg.Build = &log, "sick"
	cfg.Metrics = prometheus.NewRegistry()
	p, err := upgrade.New(cfg)
	if err != nil {
		return err
	}
	i, err := read(filepath.Join(filepath.Dir(s.PIDFile), "illness"))
	if err != nil {
		return err
	}
	i.log = p.Log()
	i.next = routes.New(routes.Deps{
		Log: p.Log(), Build: p.Build(), Generation: p.Generation(), Started: p.Started(), Ready: p.Ready,
		Leaving: handoff.Leaving, Resume: p.Resume, State: p.Carry, Relay: p.Relay, Identify: s.Identify,
		RequestTimeout: s.RequestTimeout, BodyLimit: int64(s.BodyLimit), Metrics: cfg.Metrics,
	})
	if err := p.ServeHandler(i); err != nil {
		return err
	}
	return p.Run(context.Background())
}

type illness struct {
	next   http.Handler
	log    zerolog.Logger
	kind   string
	amount int

	requests atomic.Int64
	leak     sync.Once
	leaked   []byte
}

func read(path string) (*illness, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	words := strings.Fields(string(b))
	if len(words) != 2 {
		return nil, errors.New("want two words in " + path)
	}
	n, err := strconv.Atoi(words[1])
	return &illness{kind: words[0], amount: n}, err
}

func (i *illness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := i.requests.Add(1)
	switch i.kind {
	case "errors":
		if n%int64(i.amount) == 0 {
			i.log.Info().Msg("bad answer")
			w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
			http.Error(w, "sick", http.StatusInternalServerError)
			return
		}
	case "slow":
		t := time.NewTimer(time.Duration(i.amount) * time.Millisecond)
		<-t.C
	case "leak":
		i.leak.Do(func() {
			i.leaked = make([]byte, i.amount<<20)
			for at := 0; at < len(i.leaked); at += 4096 {
				i.leaked[at] = 1 // or the kernel would not give it
			}
		})
	}
	i.next.ServeHTTP(w, r)
}
