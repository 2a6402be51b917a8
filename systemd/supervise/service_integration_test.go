//go:build integration && linux

package supervise

import (
	"context"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestI5_StopInTheMiddleOfAnUpgrade, wherever that is: it is a graceful one, whichever
// generations there are, and everything ends.
func TestI5_StopInTheMiddleOfAnUpgrade(t *testing.T) {
	for range 15 {
		s := newService(t, "127.0.0.1:0")
		p := s.start(s.supervise())
		s.serves()
		p.signal(syscall.SIGUSR2)
		after := rand.N(60 * time.Millisecond)
		time.Sleep(after) // anywhere in it
		p.signal(syscall.SIGTERM)
		p.exits(0)
		b, err := os.ReadFile(s.log)
		require.NoError(t, err)
		require.NotContains(t, string(b), "ending at once", "stopped after %s", after)
		s.nothingLeft()
	}
}

// TestI5_ACrashInTheMiddleOfAnUpgrade: if the new generation can go on, it is followed;
// if not, the service has ended, by SIGKILL.
func TestI5_ACrashInTheMiddleOfAnUpgrade(t *testing.T) {
	ends, goesOn := 0, 0
	for range 10 {
		s := newService(t, "127.0.0.1:0")
		p := s.start(s.supervise())
		v := s.serves()
		p.signal(syscall.SIGUSR2)
		time.Sleep(rand.N(40 * time.Millisecond)) // anywhere in it
		_ = syscall.Kill(v.PID, syscall.SIGKILL)  // unless it has just made way
		over := func() bool {
			select {
			case <-p.exited:
				return true
			default:
				return false
			}
		}
		until(t, "it serves again, or has ended", func() bool {
			if over() {
				return true
			}
			now, err := load.AskVersion(context.Background(), s.addr)
			return err == nil && now.Generation == 2 && now.PID == s.named()
		})
		if over() {
			ends++
			p.exits(137)
			continue
		}
		goesOn++
		tidy(t, p.pid)
		s.upgrade(func() { p.signal(syscall.SIGUSR2) })
		p.signal(syscall.SIGTERM)
		p.exits(0)
		s.nothingLeft()
	}
	t.Logf("of 10 crashes %d ended the service, after %d the new generation went on", ends, goesOn)
}

// The new generation crashes while the old one finishes a long answer. That is
// finished; then the service has ended, and not well.
func TestANewGenerationCrashesWhileTheOldOneDrains(t *testing.T) {
	s := newService(t, "127.0.0.1:0")
	p := s.start(s.supervise())
	s.serves()
	r, err := load.New(load.Workload{Kind: load.Slow, Addr: s.addr, Conns: 1, Duration: 1500 * time.Millisecond})
	require.NoError(t, err)
	r.Start(context.Background())
	until(t, "the answer has begun", func() bool { return r.Snapshot().Workloads["slow"].Sent == 1 })
	v := s.upgrade(func() { p.signal(syscall.SIGUSR2) })
	s.logs("this generation drains") // until then it would take the service back
	require.NoError(t, syscall.Kill(v.PID, syscall.SIGKILL))
	tally := r.Stop()
	require.NoError(t, tally.Err())
	require.EqualValues(t, 1, tally.Total().Answered)
	p.exits(1)
}

// TestSuperviseIsKilled: nobody notices but the one who wants to start it again.
func TestSuperviseIsKilled(t *testing.T) {
	s := newService(t, "127.0.0.1:0")
	p := s.start(s.supervise())
	v := s.serves()
	r, err := load.New(load.Workload{Kind: load.Echo, Addr: s.addr, Conns: 8, Pause: 5 * time.Millisecond})
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	p.signal(syscall.SIGKILL)
	<-p.exited
	again := s.start(s.supervise())
	again.exits(1)
	require.True(t, s.alive(v.PID))
	tally := r.Stop()
	require.NoError(t, tally.Err())
	require.Positive(t, tally.Total().Answered)
	b, err := os.ReadFile(s.path("stderr.log"))
	require.NoError(t, err)
	require.Contains(t, string(b), "a live service (pid ")
	require.NoError(t, syscall.Kill(v.PID, syscall.SIGTERM))
	until(t, "it ends", func() bool { return !s.alive(v.PID) })
}
