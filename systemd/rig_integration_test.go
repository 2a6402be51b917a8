//go:build integration

package systemd_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/systemd/systemdtest"
)

const (
	unit    = "holdfast.service"
	address = "127.0.0.1:8080" // in a network of the test's own
)

var server = load.Addr{Network: "tcp", Address: address}

// beyond is what a unit of a user's manager cannot have: another user, file
// systems of its own (the test's directory is below /tmp), capabilities, and limits
// above the caller's. Everything else is tested as it ships.
var beyond = []string{
	"User=", "Group=", "AmbientCapabilities=", "CapabilityBoundingSet=", "ProtectSystem=", "ProtectHome=",
	"PrivateTmp=", "PrivateDevices=", "PrivateMounts=", "ProtectKernelTunables=", "ProtectKernelModules=", "ProtectKernelLogs=",
	"ProtectControlGroups=", "ProtectClock=", "ProtectHostname=", "ProtectProc=", "ProcSubset=", "LimitNOFILE=",
}

// installUnit puts the shipped unit into dir/units, with the paths of the test.
func installUnit(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(unit)
	require.NoError(t, err)
	var kept []string
	for line := range strings.Lines(string(b)) {
		if !slices.ContainsFunc(beyond, func(key string) bool { return strings.HasPrefix(line, key) }) {
			kept = append(kept, line)
		}
	}
	text := strings.NewReplacer(
		"/opt/holdfast", filepath.Join(dir, "opt"),
		"--config /etc/holdfast/config.yml", "--config "+filepath.Join(dir, "config.yml"),
	).Replace(strings.Join(kept, ""))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "units", unit), []byte(text), 0o600))
	config := "addr: " + address + "\nidentify: true\ndrain-timeout: 10s\nupgrade-timeout: 3s\nlog-file: " + filepath.Join(dir, "app.log") + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600))
}

// build makes a release of the binary that calls itself name.
func build(t *testing.T, dir, name string) string {
	t.Helper()
	out := filepath.Join(dir, name)
	loadtest.Build(t, out, ".", "-ldflags", "-s -w -X main.build="+name)
	return out
}

// place makes the file the current release's binary, by a rename, as any deploy.
func place(t *testing.T, dir, file string) {
	t.Helper()
	current := filepath.Join(dir, "opt", "current")
	require.NoError(t, os.MkdirAll(current, 0o755))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(current, "new"), b, 0o755))
	require.NoError(t, os.Rename(filepath.Join(current, "new"), filepath.Join(current, "holdfast")))
}

// script makes an executable shell script.
func script(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return path
}

// agreed checks that systemd, the PID file and the server itself name the same
// process, and returns what that says of itself.
func agreed(t *testing.T, m *systemdtest.Manager) load.Version {
	t.Helper()
	v, err := load.AskVersion(context.Background(), server)
	require.NoError(t, err, m.Log())
	require.Equal(t, strconv.Itoa(v.PID), m.Show(unit, "MainPID"), "MAINPID")
	b, err := os.ReadFile(filepath.Join(m.RuntimeDir(), "holdfast", "holdfast.pid"))
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(v.PID), strings.TrimSpace(string(b)), "PID file")
	return v
}

// eventually waits for what systemd does of itself and offers no event for.
func eventually(t *testing.T, m *systemdtest.Manager, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(m.Dir, "app.log"))
			t.Fatalf("%s: not within 30 s\n%s\n%s", what, m.Log(), tail(string(log), 4000))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// underLoad runs f under requests on kept and on new connections, and wants every
// one of them answered.
func underLoad(t *testing.T, f func()) {
	t.Helper()
	r, err := load.New(
		load.Workload{Name: "kept connections", Kind: load.Echo, Addr: server, Conns: 16, Pause: 5 * time.Millisecond},
		load.Workload{Name: "new connections", Kind: load.Hello, Addr: server, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond},
		load.Workload{Name: "slow", Kind: load.Slow, Addr: server, Conns: 4, Duration: 200 * time.Millisecond},
	)
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	f()
	tally := r.Stop()
	for name, c := range tally.Workloads {
		t.Logf("%s: sent %d, answered %d, failed %d, told to close %d, forced reconnects %d",
			name, c.Sent, c.Answered, c.Failed(), c.ToldToClose, c.Reconnects)
		require.Zero(t, c.Reconnects)
	}
	require.NoError(t, tally.Err())
}
