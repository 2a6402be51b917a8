package upgrade

import (
	"strings"
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
	_, err = Config{StopDelay: -time.Second}.withDefaults()
	require.ErrorContains(t, err, "StopDelay is -1s")
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
	require.Equal(t, []string{"http=:80", "http-2=unix:/run/x", "metrics=:81"},
		names(Config{Addr: ":80", Addrs: []string{"unix:/run/x", "metrics=:81"}}))
	require.Equal(t, []string{"https=:443"}, names(Config{Addr: ":443", TLSCertFile: "c"}))
	_, err := Config{Addrs: []string{"a=:1", "a=:2"}}.Addresses()
	require.ErrorContains(t, err, "the name a is used twice")
	_, err = Config{Addrs: []string{"admin=:81"}}.Addresses()
	require.ErrorContains(t, err, "the name admin is that of the admin listener")
}

func TestAdminAddresses(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want []string
	}{
		{Config{}, nil},
		{Config{PIDFile: "/run/app/app.pid"}, []string{"admin=unix:/run/app/app.pid.admin"}},
		{Config{PIDFile: "/run/app/app.pid", Admin: []string{"none"}}, nil},
		{Config{Admin: []string{"unix:/run/a", "unix:/run/b", "localhost:81"}}, []string{"admin=unix:/run/a", "admin=unix:/run/b", "admin=localhost:81"}},
		{Config{Admin: []string{"[::1]:81"}}, []string{"admin=[::1]:81"}},
		{Config{Admin: []string{"127.9.9.9:0"}}, []string{"admin=127.9.9.9:0"}},
	} {
		as, err := tc.c.AdminAddresses()
		require.NoError(t, err)
		var got []string
		for _, a := range as {
			got = append(got, a.String())
		}
		require.Equal(t, tc.want, got)
	}
	for want, c := range map[string]Config{
		"for this machine only":                          {Admin: []string{":81"}},
		`"192.0.2.1:81": the admin listener is for this`: {Admin: []string{"192.0.2.1:81"}},
		`"example.com:81": the admin`:                    {Admin: []string{"example.com:81"}},
		"one TCP address is enough":                      {Admin: []string{"127.0.0.1:81", "127.0.0.1:82"}},
		"none stands alone":                              {Admin: []string{"none", "127.0.0.1:82"}},
		"no name of its own":                             {Admin: []string{"x=127.0.0.1:82"}},
		"must be absolute":                               {Admin: []string{"unix:x"}},
		"a socket's path has at most 107 bytes":          {PIDFile: "/run/" + strings.Repeat("x", 100)},
	} {
		_, err := c.AdminAddresses()
		require.ErrorContains(t, err, want)
	}
}

func TestReportsFile(t *testing.T) {
	require.Empty(t, Config{}.ReportsFile())
	require.Equal(t, "/run/app.pid.reports", Config{PIDFile: "/run/app.pid"}.ReportsFile())
	require.Equal(t, "/var/lib/app/app.pid.reports", Config{PIDFile: "/run/app.pid", StateDir: "/var/lib/app"}.ReportsFile())
	require.Equal(t, "/var/lib/app/holdfast.reports", Config{StateDir: "/var/lib/app"}.ReportsFile())
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
