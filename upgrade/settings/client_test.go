package settings

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func find(t *testing.T, args ...string) (*Client, error) {
	t.Helper()
	var c struct {
		Find struct{ Client } `cmd:""`
	}
	k, err := kong.New(&c, kong.DefaultEnvars("HOLDFAST"), kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	_, err = k.Parse(append([]string{"find"}, args...))
	return &c.Find.Client, err
}

func TestAServiceIsFound(t *testing.T) {
	conf := file(t, "pid-file: /run/app/app.pid\ndrain-timeout: 3s\nstate-dir: /var/lib/app\n")
	for _, tc := range []struct {
		args          []string
		addr, reports string
	}{
		{[]string{"--pid-file", "/run/x.pid"}, "admin=unix:/run/x.pid.admin", "/run/x.pid.reports"},
		{[]string{"--config", conf}, "admin=unix:/run/app/app.pid.admin", "/var/lib/app/app.pid.reports"},
		{[]string{"--admin", "127.0.0.1:81,unix:/run/y"}, "admin=unix:/run/y", ""},
		{[]string{"--admin", "127.0.0.1:81", "--pid-file", "/run/x.pid"}, "admin=127.0.0.1:81", "/run/x.pid.reports"},
	} {
		c, err := find(t, tc.args...)
		require.NoError(t, err)
		a, err := c.Address()
		require.NoError(t, err)
		require.Equal(t, tc.addr, a.String())
		require.Equal(t, tc.reports, c.ReportsFile())
		_, err = c.Connect()
		require.NoError(t, err)
	}
	c, err := find(t, "--admin", "none")
	require.NoError(t, err)
	_, err = c.Connect()
	require.ErrorContains(t, err, "no admin listener")
	c, err = find(t, "--pid-file", "/run/x.pid", "--token-file", filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	_, err = c.Connect()
	require.ErrorContains(t, err, "--token-file")
	_, err = find(t)
	require.ErrorContains(t, err, "which service?")
	_, err = find(t, "--config", file(t, "pid-file: [\n"))
	require.Error(t, err)
}

func TestBadAdmin(t *testing.T) {
	_, err := parse(t, "--admin", "0.0.0.0:81")
	require.ErrorContains(t, err, "--admin: address \"0.0.0.0:81\": the admin listener is for this machine only")
	s, err := parse(t, "--admin", "unix:/run/a", "--state-dir", "/nonexistent", "--force-drain", "2s")
	require.NoError(t, err)
	require.ErrorContains(t, s.Check(), "--state-dir")
	require.Equal(t, []string{"unix:/run/a"}, s.Config().Admin)
	require.Equal(t, "2s", s.Config().ForceDrain.String())
}
