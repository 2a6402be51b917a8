package upgrade

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/holdfast-go/holdfast/upgrade/control"
)

// logLevel is what is logged now. It is zerolog's global level, an atomic variable that
// every logger of the process looks at anyway: the process's own, that of a request,
// and the service's, without a lock and at once.
type logLevel struct {
	log        *zerolog.Logger
	configured zerolog.Level

	mu     sync.Mutex // guards what follows
	revert *time.Timer
	until  time.Time
	closed bool
}

func newLogLevel(log *zerolog.Logger) *logLevel {
	return &logLevel{log: log, configured: max(zerolog.GlobalLevel(), log.GetLevel())}
}

// get tells the level. The caller holds no lock.
func (l *logLevel) get() control.LogLevel {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now()
}

func (l *logLevel) now() control.LogLevel {
	n := control.LogLevel{Level: max(zerolog.GlobalLevel(), l.log.GetLevel()).String(), Configured: l.configured.String()}
	if l.revert != nil {
		until := l.until
		n.Until = &until
	}
	return n
}

// set changes the level. A later change replaces an earlier one with its end.
func (l *logLevel) set(c control.LevelChange) (control.LogLevel, error) {
	if floor := l.log.GetLevel(); c.Level < floor {
		return control.LogLevel{}, fmt.Errorf("the service's own logger is made for %s and above: it can write no %s", floor, c.Level)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return control.LogLevel{}, errors.New("the process ends")
	}
	if l.revert != nil {
		l.revert.Stop()
		l.revert = nil
	}
	if c.For > 0 {
		l.until = time.Now().Add(c.For)
		var mine *time.Timer
		mine = time.AfterFunc(c.For, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.revert == mine { // and not one that came after it
				l.revert = nil
				l.change(l.configured, "its time is over", 0)
			}
		})
		l.revert = mine
	}
	l.change(c.Level, c.By, c.For)
	return l.now(), nil
}

// change sets the level, and says so where both levels let it be seen.
func (l *logLevel) change(to zerolog.Level, by string, length time.Duration) {
	old := zerolog.GlobalLevel()
	say := func() {
		e := l.log.WithLevel(max(zerolog.InfoLevel, min(old, to))).Stringer("from", old).Stringer("to", to).Str("by", by)
		if length > 0 {
			e = e.Dur("for_ms", length)
		}
		e.Msg("log level changed")
	}
	if to > old {
		say()
	}
	zerolog.SetGlobalLevel(to)
	if to <= old {
		say()
	}
}

// close ends the waiting for the end of a change.
func (l *logLevel) close() {
	if l == nil {
		return // it has not come to that
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.revert != nil {
		l.revert.Stop()
		l.revert = nil
	}
}

// LogLevel implements [control.Service].
func (s adminFace) LogLevel() control.LogLevel { return s.level.get() }

// SetLogLevel implements [control.Service].
func (s adminFace) SetLogLevel(c control.LevelChange) (control.LogLevel, error) {
	return s.level.set(c)
}
