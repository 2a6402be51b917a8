package upgrade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfigDefaults(t *testing.T) {
	c, err := Config{}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, DefaultUpgradeTimeout, c.UpgradeTimeout)
	require.Equal(t, DefaultDrainTimeout, c.DrainTimeout)
	require.Equal(t, DefaultWarmUpTimeout, c.WarmUpTimeout)
	require.Equal(t, DefaultStopLinger, c.StopLinger)

	c, err = Config{StopLinger: -1, DrainTimeout: time.Minute}.withDefaults()
	require.NoError(t, err)
	require.Zero(t, c.StopLinger)
	require.Equal(t, time.Minute, c.DrainTimeout)
	c, err = Config{StopLinger: time.Hour}.withDefaults()
	require.NoError(t, err)
	require.Equal(t, DefaultDrainTimeout, c.StopLinger, "bounded by the drain")

	_, err = Config{DrainTimeout: -time.Second}.withDefaults()
	require.ErrorContains(t, err, "DrainTimeout is -1s")
	_, err = Config{TLSKeyFile: "k"}.withDefaults()
	require.ErrorContains(t, err, "one of the two is missing")
}

func TestConfigAddresses(t *testing.T) {
	names := func(c Config) (out []string) {
		as, err := c.Addresses()
		require.NoError(t, err)
		for _, a := range as {
			out = append(out, a.String())
		}
		return out
	}
	require.Equal(t, []string{"http=:80", "http-2=unix:/run/x", "admin=:81"},
		names(Config{Addr: ":80", Addrs: []string{"unix:/run/x", "admin=:81"}}))
	require.Equal(t, []string{"https=:443"}, names(Config{Addr: ":443", TLSCertFile: "c"}))
	_, err := Config{Addrs: []string{"a=:1", "a=:2"}}.Addresses()
	require.ErrorContains(t, err, "the name a is used twice")
}

func TestStatesAreClosed(t *testing.T) {
	for from := Starting; from <= Stopped; from++ {
		for _, to := range next[from] {
			require.NotEqual(t, from, to)
			require.NotEmpty(t, to.String())
		}
		require.Equal(t, from == Stopped, len(next[from]) == 0, "only %s is final", Stopped)
	}
	p, err := Config{}.withDefaults()
	require.NoError(t, err)
	proc := &Process{cfg: p, log: *p.Log}
	require.EqualError(t, proc.Ready(), "starting")
	proc.enter(Serving)
	require.NoError(t, proc.Ready())
	require.Panics(t, func() { proc.enter(Stopped) })
}
