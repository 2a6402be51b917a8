package demo

import (
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

// How often the progress is shown: in place on a terminal, or else line by line.
const (
	refreshEvery = 200 * time.Millisecond
	lineEvery    = time.Second
	// rateOver is the time over which the rate is averaged.
	rateOver = time.Second
)

// meter shows the progress until it is stopped.
type meter struct {
	screen *screen
	runner *load.Runner
	server *load.Process
	of     int // upgrades
	start  time.Time
	done   chan struct{}
	group  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	current int        // number of the upgrade; 0: the first is still to come
	running bool       // it is under way
}

func startMeter(s *screen, r *load.Runner, p *load.Process, upgrades int) *meter {
	m := &meter{screen: s, runner: r, server: p, of: upgrades, start: time.Now(), done: make(chan struct{})}
	m.group.Go(m.run)
	return m
}

// stop ends the display and takes it off the screen.
func (m *meter) stop() {
	close(m.done)
	m.group.Wait()
	m.screen.clear()
}

func (m *meter) upgrading(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current, m.running = n, true
}

func (m *meter) upgraded() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = false
}

func (m *meter) run() {
	every := lineEvery
	if m.screen.terminal {
		every = refreshEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	type point struct {
		at   time.Time
		sent int64
	}
	points := []point{{m.start, 0}}
	for {
		select {
		case <-m.done:
			return
		case now := <-tick.C:
			total := m.runner.Snapshot().Total()
			for len(points) > 1 && now.Sub(points[0].at) > rateOver+every/2 {
				points = points[1:]
			}
			rate := float64(total.Answered-points[0].sent) / max(now.Sub(points[0].at).Seconds(), 0.001)
			points = append(points, point{now, total.Answered})
			m.screen.refresh(m.text(now, rate, total))
		}
	}
}

func (m *meter) text(now time.Time, rate float64, total load.Counts) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	doing := "before the first upgrade"
	switch {
	case m.running:
		doing = fmt.Sprintf("upgrade %d of %d under way", m.current, m.of)
	case m.current > 0:
		doing = fmt.Sprintf("%d of %d upgrades done", m.current, m.of)
	}
	return fmt.Sprintf("%5.1f s  generation %d  %s requests/s  %s lost  %s", now.Sub(m.start).Seconds(),
		m.server.Version().Generation, grouped(int64(rate)), grouped(total.Failed()), doing)
}
