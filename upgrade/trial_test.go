package upgrade

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
)

// A trial fits into what the old generation, with settings of its own, allows.
func TestATrialFitsIntoTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Process{
			cfg: Config{HandoffTimeout: 10 * time.Second}, started: time.Now(), log: zerolog.Nop(),
		}
		require.Equal(t, time.Hour, p.fit(time.Hour, 0), "nothing is known of a bound")

		p.parentSays = handoff.Message{Bound: 60 * time.Second}
		require.Equal(t, 20*time.Second, p.fit(20*time.Second, 30*time.Second), "there is room for both")
		require.Equal(t, 25*time.Second, p.fit(60*time.Second, 60*time.Second), "each gets its part of 60 - 10 s")

		time.Sleep(30 * time.Second) // of the bubble's clock: the warm-up
		require.Equal(t, 20*time.Second, p.fit(60*time.Second, 0))
		time.Sleep(40 * time.Second)
		require.Zero(t, p.fit(60*time.Second, 0), "it is too late for a trial")
	})
}
