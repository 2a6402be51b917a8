//go:build integration && linux

package supervise

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestI9_InATerminal: Ctrl-C is one graceful stop, though the current generation is
// the third process below the terminal; a second Ctrl-C ends at once.
func TestI9_InATerminal(t *testing.T) {
	// begin has a request under way, and one generation that is not the first.
	begin := func(t *testing.T, length time.Duration) (*service, *running, *tty, *load.Runner) {
		s := newService(t, "127.0.0.1:0")
		x := openTTY(t)
		p := s.start(s.supervise(), x.in)
		s.serves()
		s.upgrade(func() { p.signal(syscall.SIGUSR2) })
		r, err := load.New(load.Workload{Kind: load.Slow, Addr: s.addr, Conns: 1, Duration: length})
		require.NoError(t, err)
		r.Start(context.Background())
		t.Cleanup(func() { r.Stop() })
		until(t, "a request is under way", func() bool { return r.Snapshot().Workloads["slow"].Sent == 1 })
		s.logs("previous generation has exited")
		return s, p, x, r
	}
	t.Run("upgrades", func(t *testing.T) {
		s := newService(t, "127.0.0.1:0")
		x := openTTY(t)
		p := s.start(s.supervise(), x.in)
		s.serves()
		s.lossless(func() { p.signal(syscall.SIGUSR2) })
		tidy(t, p.pid)
		x.types(t, ctrlC)
		p.exits(0)
		s.nothingLeft()
		require.Contains(t, x.screen(), "following the next generation", "in words, on a terminal")
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		s, p, x, r := begin(t, 500*time.Millisecond)
		x.types(t, ctrlC)
		tally := r.Stop() // waits for the answer
		require.NoError(t, tally.Err())
		require.EqualValues(t, 1, tally.Total().Answered)
		p.exits(0)
		s.nothingLeft()
	})
	t.Run("Ctrl-C twice", func(t *testing.T) {
		s, p, x, r := begin(t, 8*time.Second)
		x.types(t, ctrlC)
		s.logs("stop requested")
		x.types(t, ctrlC)
		p.exits(1)
		total := r.Stop().Total() // the client goes on asking, and is refused
		require.Zero(t, total.Answered, "the answer was not waited for")
		require.Positive(t, total.Failed())
		require.Equal(t, 2, strings.Count(x.screen(), "stop requested"))
		s.nothingLeft()
	})
}
