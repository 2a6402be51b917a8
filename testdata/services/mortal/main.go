// A service with the demonstration routes whose new generations meet an accident.
// The file "fault" beside the PID file, read by each generation as it starts, says
// which:
//
//	kill warm-up      dies while it warms up
//	kill adopted N    dies when it has adopted N connections, before the commit
//	stop adopted N    is stopped then, by SIGSTOP
//	term adopted N    gets SIGTERM then
//	kill serving      dies just after the commit
//
// GET /hold keeps the old generation's takeover from its end until the new one is
// dead, and with ?ms= at most so long. The file "versions" says which versions of the handoff protocol it speaks: "2 1".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes"
	"github.com/holdfast-go/holdfast/upgrade"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mortal:", err)
		os.Exit(1)
	}
}

func run() error {
	addr := flag.String("addr", "127.0.0.1:0", "listen here")
	var cfg upgrade.Config
	flag.StringVar(&cfg.PIDFile, "pid-file", "", "PID file")
	flag.DurationVar(&cfg.DrainTimeout, "drain-timeout", 10*time.Second, "see upgrade.Config")
	flag.DurationVar(&cfg.HandoffTimeout, "handoff-timeout", 0, "see upgrade.Config")
	flag.DurationVar(&cfg.UpgradeTimeout, "upgrade-timeout", 0, "see upgrade.Config")
	flag.Parse()
	zerolog.TimeFieldFormat = time.RFC3339Nano
	log := zerolog.New(os.Stderr).With().Timestamp().Logger()
	cfg.Log = &log

	if v := words(cfg.PIDFile, "versions"); len(v) > 0 {
		handoff.ProtocolVersions = nil
		for _, s := range v {
			n, err := strconv.Atoi(s)
			if err != nil {
				return err
			}
			handoff.ProtocolVersions = append(handoff.ProtocolVersions, n)
		}
	}
	p, err := upgrade.New(cfg)
	if err != nil {
		return err
	}
	f := fault{p: p}
	if p.Generation() > 1 {
		f.read(words(cfg.PIDFile, "fault"))
	}
	p.WarmUp("warm-up", func(context.Context) error { f.meet("warm-up"); return nil })
	p.Go("serving", func(context.Context) error { f.meet("serving"); return nil })
	a, err := handoff.ParseAddress("http=" + *addr)
	if err != nil {
		return err
	}
	r := routes.New(routes.Deps{
		Log: p.Log(), Build: p.Build(), Generation: p.Generation(), Started: p.Started(),
		Ready: p.Ready, Leaving: handoff.Leaving, Identify: true,
	})
	h := holder{died: make(chan struct{})}
	p.Relay("hold", nil, sync.OnceFunc(func() { close(h.died) }))
	r.GET("/hold", h.hold)
	srv := &http.Server{Handler: r, ConnState: f.connState, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	if err := p.Serve(srv, a); err != nil {
		return err
	}
	return p.Run(context.Background())
}

// words are those of a file beside the PID file; none if there is no such file.
func words(pidFile, name string) []string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(pidFile), name))
	return strings.Fields(string(b))
}

// holder has connections that keep the takeover from its end: each begins to move, and
// then waits for the death of the new generation, the first one that it sees, or
// for the time in the query.
type holder struct{ died chan struct{} }

func (h holder) hold(c *gin.Context) {
	conn, _, err := c.Writer.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	timeout := make(<-chan time.Time)
	ms, _ := strconv.Atoi(c.Query("ms"))
	b := handoff.Movable(conn, handoff.Mover{Name: "hold", Freeze: func() ([]byte, error) {
		if ms > 0 {
			timeout = time.After(time.Duration(ms) * time.Millisecond)
		}
		select {
		case <-h.died:
		case <-timeout:
		}
		return nil, errors.New("held")
	}})
	if _, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n"); err == nil {
		_ = b.Wait() // for the client's end
	}
}

// fault is the accident that this generation meets.
type fault struct {
	p       *upgrade.Process
	signal  syscall.Signal
	where   string
	adopted int64 // how many connections it takes
	seen    atomic.Int64
}

func (f *fault) read(words []string) {
	if len(words) < 2 {
		return
	}
	f.signal = map[string]syscall.Signal{"kill": syscall.SIGKILL, "stop": syscall.SIGSTOP, "term": syscall.SIGTERM}[words[0]]
	f.where = words[1]
	if len(words) > 2 {
		f.adopted, _ = strconv.ParseInt(words[2], 10, 64)
	}
}

func (f *fault) meet(where string) {
	if f.where == where {
		_ = syscall.Kill(os.Getpid(), f.signal)
	}
}

// connState counts the connections that come before the commit. The server sees each
// as a new one.
func (f *fault) connState(_ net.Conn, st http.ConnState) {
	if st == http.StateNew && f.p.State() == upgrade.Starting && f.seen.Add(1) == f.adopted {
		f.meet("adopted")
	}
}
