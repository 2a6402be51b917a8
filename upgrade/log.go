package upgrade

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"

	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/handoff"
)

// What the process does for its log: what stands on each line, the first and the last
// line of a generation, the logger of its handlers, and a log file that was moved away.

// stampLog puts on every line which process wrote it.
func (p *Process) stampLog() {
	p.log = p.cfg.Log.With().Int("pid", os.Getpid()).Str("build", p.cfg.Build).
		Int("generation", p.generation).Str("role", "server").Logger()
	p.shared.log, p.exclusive.log, p.measures.exchange.log = p.log, p.log, p.log
	p.level = newLogLevel(&p.log)
}

// logStart writes the first line of a generation that can do what it is set to. One that
// cannot is an error of New or Serve, and its caller has one line to say so.
func (p *Process) logStart() { p.log.Info().Str("go", runtime.Version()).Msg("started") }

// Log is the logger of Config with pid, build, generation and role stamped on it. A
// handler finds it in its request's context, too: zerolog.Ctx(r.Context()).
func (p *Process) Log() zerolog.Logger { return p.log }

// logExit writes the last line of this generation.
func (p *Process) logExit(err error) {
	if err == nil {
		p.log.Info().Msg("exit")
		return
	}
	e := p.log.Error().Err(err)
	var pe *phaseError
	if errors.As(err, &pe) {
		e = e.Str("phase", string(pe.phase))
	}
	e.Msg("exit")
}

// lendLog puts the process's logger into the context of every request, once for each
// listener: no request pays for it.
func (p *Process) lendLog(srv *http.Server) {
	base := srv.BaseContext
	srv.BaseContext = func(ln net.Listener) context.Context {
		ctx := context.Background()
		if base != nil {
			ctx = base(ln)
		}
		return p.log.WithContext(ctx)
	}
}

// reopen opens the log file anew.
func (l *loop) reopen() {
	if l.cfg.ReopenLog == nil {
		l.log.Info().Msg("SIGUSR1 ignored: no log file to reopen")
		return
	}
	if err := l.cfg.ReopenLog(); err != nil {
		l.log.Error().Err(err).Msg("log file not reopened")
		return
	}
	l.log.Info().Msg("log file reopened")
}

// passReopenOn tells the other generation, if there is one: logrotate(8) signals one
// process, and both write to the file. One that is just starting finds the word when it
// listens; one that knows nothing of it ignores it.
func (l *loop) passReopenOn() {
	m := handoff.Message{Type: handoff.Reopen}
	if l.parent != nil && !l.alone {
		_ = l.parent.Send(m) // one that is gone writes nothing any more
	}
	if a := l.attempt; a != nil && a.link != nil && !a.gone {
		_ = a.link.Send(m)
	}
}
