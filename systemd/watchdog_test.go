package systemd

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWatchdogTimeout(t *testing.T) {
	self, other := strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getpid()+1)
	for _, tc := range []struct {
		name, usec, pid string
		want            time.Duration
		left            string // of WATCHDOG_USEC, for the next generation
	}{
		{"first generation", "10000000", self, 10 * time.Second, "10000000"},
		{"a later one", "10000000", "", 10 * time.Second, "10000000"},
		{"somebody else pings", "10000000", other, 0, ""},
		{"off", "", "", 0, ""},
		{"zero", "0", self, 0, ""},
		{"negative", "-5", self, 0, ""},
		{"nonsense", "soon", self, 0, ""},
		{"nonsense for a pid", "10000000", "me", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(envWatchdogUsec, tc.usec)
			t.Setenv(envWatchdogPID, tc.pid)
			t.Setenv(envNotifySocket, "/nonexistent")
			timeout, ok := New().WatchdogTimeout()
			require.Equal(t, tc.want, timeout)
			require.Equal(t, tc.want > 0, ok)
			require.Equal(t, tc.left, os.Getenv(envWatchdogUsec))
			_, set := os.LookupEnv(envWatchdogPID)
			require.False(t, set)
			require.Equal(t, "/nonexistent", os.Getenv(envNotifySocket), "the next generation needs it")
		})
	}
}
