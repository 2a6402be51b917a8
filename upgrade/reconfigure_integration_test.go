//go:build integration

package upgrade_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestConfigurationIsReadAnew changes the file between generations: listeners come
// and go, and the ones that stay lose nothing.
func TestConfigurationIsReadAnew(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	kept, dropped := "always=unix:"+filepath.Join(dir, "kept.sock"), filepath.Join(dir, "dropped.sock")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	added := ln.Addr().String()
	require.NoError(t, ln.Close())
	configure := func(addrs string) {
		require.NoError(t, os.WriteFile(config, []byte("addr: ["+addrs+"]\ndrain-timeout: 10s\n"), 0o600))
	}

	configure(`"` + kept + `", "dropped=unix:` + dropped + `"`)
	cmd := load.Serve(build(t, "."), dir)
	cmd.Args = append(cmd.Args, "--config", config)
	p := start(t, cmd)
	r := loadtest.Start(t, load.Workload{Kind: load.Echo, Conns: 8, Addr: p.Addr("always")})
	loadtest.Flowing(t, r, 8)
	c, err := net.Dial("unix", dropped)
	require.NoError(t, err)
	require.NoError(t, c.Close())

	configure(`"` + kept + `", "added=` + added + `"`)
	u := up(t, p)
	gone(t, p, u.OldPID)
	_, err = os.Stat(dropped)
	require.ErrorIs(t, err, os.ErrNotExist, "a socket that the new generation does not want is removed")
	c, err = net.Dial("tcp", added)
	require.NoError(t, err)
	require.NoError(t, c.Close())

	// A configuration that cannot be: the old generation goes on.
	configure(`"` + kept + `", "bad=127.0.0.1:nonsense"`)
	pid := signal(t, cmd.PIDFile, syscall.SIGHUP)
	said, err := holdfastWait(t, cmd.Binary, cmd.PIDFile, pid)
	require.Error(t, err)
	require.Contains(t, said, "exit status 2")
	configure(`"` + kept + `", "bad=192.0.2.1:80", "new=unix:` + filepath.Join(dir, "new.sock") + `"`)
	pid = signal(t, cmd.PIDFile, syscall.SIGHUP)
	said, err = holdfastWait(t, cmd.Binary, cmd.PIDFile, pid)
	require.Error(t, err)
	require.Contains(t, said, "this machine has no such address")

	configure(`"` + kept + `"`)
	u = up(t, p)
	gone(t, p, u.OldPID)
	_, err = net.Dial("tcp", added)
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "nobody holds a dropped listener")
	loadtest.Flowing(t, r, 8)
	tally := r.Stop()
	stop(t, p)
	require.NoError(t, tally.Err())
	require.Zero(t, tally.Total().Reconnects)
}

// TestCertificatesAreReadAnew replaces the files and upgrades.
func TestCertificatesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	cert, key, client := certificate(t, dir)
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
	cmd.TLS = client
	p := start(t, cmd)
	served := func() []byte {
		c, err := tls.Dial("tcp", p.Addr("https").Address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // looks at what is served
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].Raw
	}
	before := served()
	certificate(t, dir)
	require.Equal(t, before, served(), "not before the upgrade")
	pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
	_, err := holdfastWait(t, cmd.Binary, cmd.PIDFile, pid)
	require.NoError(t, err)
	require.NotEqual(t, before, served())

	// A certificate that is broken is caught before it serves.
	require.NoError(t, os.WriteFile(cert, []byte("nonsense"), 0o600))
	pid = signal(t, cmd.PIDFile, syscall.SIGUSR2)
	said, err := holdfastWait(t, cmd.Binary, cmd.PIDFile, pid)
	require.Error(t, err)
	require.Contains(t, said, "TLS certificate")
	require.NotEqual(t, before, served())
}
