package upgrade

import (
	"os"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// tellTick is how often a generation that starts tells the old one of itself.
const tellTick = 250 * time.Millisecond

// pulse notes what this generation answers, second by second, until it ends. While it
// starts, the old generation hears of it, for that one is asked.
func (p *Process) pulse() {
	for {
		p.tellLife()
		next := time.Now().Truncate(time.Second).Add(time.Second)
		wait := time.Until(next)
		if p.State() == Starting {
			wait = min(wait, tellTick)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.ended:
			timer.Stop()
			return
		}
		if !time.Now().Before(next) {
			p.pace.note(&p.history, next.Unix()-1)
		}
	}
}

// lastWord tells the other generation what this one, which is about to end, has
// answered since its last full second.
func (p *Process) lastWord(link *handoff.Link) {
	if p.pace != nil {
		p.pace.note(&p.history, time.Now().Unix())
		p.tellWord(link, p.ownWord())
	}
}

// pace takes what has been answered since it last did.
type pace struct {
	mu   sync.Mutex // guards what follows
	laps *health.Laps
	last report.Second
}

// note adds it to a second of the history.
func (c *pace) note(h *report.History, at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.laps.Next(); at == c.last.At {
		c.last.Requests += s.Requests
		c.last.Failures += s.Requests - s.Successes
		c.last.P95 = max(c.last.P95, s.P95.Microseconds())
	} else {
		c.last = report.Second{
			At: at, PID: os.Getpid(),
			Requests: s.Requests, Failures: s.Requests - s.Successes, P95: s.P95.Microseconds(),
		}
	}
	h.Put(c.last)
}

// tellLife tells the old generation of this one, which is not its own master yet.
func (p *Process) tellLife() {
	if o := p.previous; o != nil && o.moves && p.State() == Starting {
		p.tellWord(o.peer.Link, p.ownWord())
	}
}

// ownWord is this generation and its last seconds.
func (p *Process) ownWord() word {
	l := p.life()
	w := word{Connections: l.Connections, Life: &l, Deadline: p.measures.deadline.Load()}
	for _, s := range p.history.Seconds(time.Now().Unix() - 3) {
		if s.PID == l.PID {
			w.Seconds = append(w.Seconds, s)
		}
	}
	return w
}

// hearLife takes what the other generation says of itself.
func (p *Process) hearLife(w word) {
	if w.Past != nil {
		p.history.Learn(*w.Past)
	}
	p.history.Put(w.Seconds[max(0, len(w.Seconds)-report.KeepSeconds):]...)
	if w.Life != nil {
		w.Life.Requests = w.Life.Requests[:min(len(w.Life.Requests), report.MaxRequests)]
		p.other.Store(&told{*w.Life, time.Now()})
	}
}
