//go:build integration

package upgrade_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
)

// TestI4_ABadReleaseCostsNothing puts releases in place that cannot take over, and
// asks for them under load. The old generation goes on, says why, and can still be
// upgraded.
func TestI4_ABadReleaseCostsNothing(t *testing.T) {
	good := build(t, ".")
	for _, tc := range []struct {
		name   string
		place  func(t *testing.T, path string)
		phase  string
		reason string
	}{
		{"exits at once", func(t *testing.T, path string) { install(t, build(t, "./testdata/releases/exits"), path) }, "start", "exit status 3"},
		{"hangs", func(t *testing.T, path string) { install(t, build(t, "./testdata/releases/hangs"), path) }, "start", "not ready within 1s and was killed"},
		{"panics in init", func(t *testing.T, path string) { install(t, build(t, "./testdata/releases/panics"), path) }, "start", "exit status 2"},
		{"binds nothing", func(t *testing.T, path string) { install(t, build(t, "./testdata/releases/deaf"), path) }, "start", "nothing to listen on"},
		{"not executable", func(t *testing.T, path string) { require.NoError(t, os.Chmod(path, 0o644)) }, "spawn", "is not executable"},
		{"another architecture", placeForeign, "spawn", "is built for EM_RISCV"},
		{"missing", func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, "spawn", "is missing"},
		{"empty", func(t *testing.T, path string) { installBytes(t, nil, path, 0o755) }, "spawn", "is empty"},
		{"not a program", func(t *testing.T, path string) { installBytes(t, []byte("hello\n"), path, 0o755) }, "start", "exec format error"},
		{"a directory", func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.Mkdir(path, 0o755))
		}, "spawn", "is a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "holdfast")
			install(t, good, path)
			cmd := load.Serve(path, dir, "127.0.0.1:0")
			cmd.Args = append(cmd.Args, "--upgrade-timeout", "1s")
			p := start(t, cmd)
			r := loadtest.Start(t,
				load.Workload{Kind: load.Echo, Conns: 16, Addr: p.Addr("http")},
				load.Workload{Kind: load.Chat, Conns: 4, Push: 50 * time.Millisecond, Addr: p.Addr("http")},
				load.Workload{Kind: load.Hello, Conns: 4, NewConn: true, Addr: p.Addr("http")})
			loadtest.Flowing(t, r, 16)
			tc.place(t, path)

			pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
			said, err := holdfastWait(t, good, cmd.PIDFile, pid)
			require.Error(t, err, "the exit code of the reload")
			require.Contains(t, said, tc.reason)
			require.Contains(t, said, "phase "+tc.phase)
			require.NotContains(t, said, "\n", "one line")

			loadtest.Flowing(t, r, 16)
			serving, err := upgrade.ReadPIDFile(cmd.PIDFile)
			require.NoError(t, err)
			require.Equal(t, pid, serving, "the old generation goes on")
			s, err := upgrade.ReadStatus(cmd.PIDFile)
			require.NoError(t, err)
			require.Equal(t, "serving", s.State)
			require.Equal(t, upgrade.Failed, s.Upgrade.Result)
			require.Contains(t, s.Upgrade.Reason, tc.reason)
			log, err := os.ReadFile(p.LogPath())
			require.NoError(t, err)
			require.Contains(t, string(log), "upgrade failed: this generation goes on")

			// The next release is good.
			require.NoError(t, os.RemoveAll(path))
			install(t, good, path)
			u := up(t, p)
			require.Equal(t, 2, u.Generation)
			gone(t, p, u.OldPID)
			loadtest.Flowing(t, r, 16)
			tally := r.Stop()
			stop(t, p)
			require.NoError(t, tally.Err())
			var sent int64
			for _, c := range tally.Workloads {
				sent += c.Sent
				require.Zero(t, c.Reconnects)
			}
			t.Logf("sent %d, failed 0; said: %s", sent, said)
		})
	}
}

// placeForeign makes the binary one for another processor: the field e_machine of
// the ELF header says which (elf(5)).
func placeForeign(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	binary.LittleEndian.PutUint16(b[18:], 243) // EM_RISCV
	installBytes(t, b, path, 0o755)
}

// TestI6_RequestsAreQueued asks again while an upgrade runs and while the old
// generation drains. Each request is carried out or merged with another, and the
// last word is a generation that was started after the last request.
func TestI6_RequestsAreQueued(t *testing.T) {
	dir := t.TempDir()
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	p := start(t, cmd)
	// Keeps each old generation draining for a while.
	r := loadtest.Start(t, load.Workload{Kind: load.Slow, Conns: 4, Duration: 500 * time.Millisecond, Addr: p.Addr("http")})
	loadtest.Flowing(t, r, 4)

	first := signal(t, cmd.PIDFile, syscall.SIGUSR2)
	require.NoError(t, syscall.Kill(first, syscall.SIGUSR2), "while it runs")
	last := time.Now()
	require.NoError(t, syscall.Kill(first, syscall.SIGHUP))
	gone(t, p, first)
	var s upgrade.Status
	require.Eventually(t, func() bool {
		var err error
		s, err = upgrade.ReadStatus(cmd.PIDFile)
		return err == nil && s.Generation >= 3 && s.State == "serving"
	}, 20*time.Second, 5*time.Millisecond, "the queued request is carried out by the next generation")
	require.True(t, s.Started.After(last))

	// To a generation whose predecessor drains.
	u := up(t, p)
	pid := signal(t, cmd.PIDFile, syscall.SIGUSR2)
	require.Equal(t, u.PID, pid)
	_, err := holdfastWait(t, cmd.Binary, cmd.PIDFile, pid)
	require.NoError(t, err)
	tally := r.Stop()
	require.NoError(t, tally.Err())
}
