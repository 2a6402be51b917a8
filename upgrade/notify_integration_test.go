//go:build integration && linux

package upgrade_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast/routes/load"
)

// TestNotifyReload is what a manager of a unit with Type=notify-reload does, and what
// it waits for: it sends ReloadSignal= (SIGHUP), wants RELOADING=1 with a time that is not
// before the signal, and then READY=1, whoever serves then. systemd.service(5),
// sd_notify(3).
func TestNotifyReload(t *testing.T) {
	m, socket := serviceManager(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "holdfast")
	install(t, build(t, "."), path)
	cmd := load.Serve(path, dir, "127.0.0.1:0")
	cmd.Env = []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=3000000"}
	p := start(t, cmd)

	until := func(what string, from int, prefix string) (int, string) {
		at := -1
		require.Eventually(t, func() bool {
			at = slices.IndexFunc(m.heard()[from:], func(msg string) bool { return strings.HasPrefix(msg, prefix) })
			return at >= 0
		}, 20*time.Second, 5*time.Millisecond, "%s\n%q", what, m.heard())
		return from + at, m.heard()[from+at]
	}
	reload := func() (from int, msg string) {
		t.Helper()
		from = len(m.heard())
		var now unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
		signal(t, cmd.PIDFile, syscall.SIGHUP)
		at, msg := until("RELOADING=1 comes", from, "RELOADING=1\nMONOTONIC_USEC=")
		var usec int64
		_, err := fmt.Sscanf(msg, "RELOADING=1\nMONOTONIC_USEC=%d\nEXTEND_TIMEOUT_USEC=", &usec)
		require.NoError(t, err, msg)
		require.GreaterOrEqual(t, usec, now.Nano()/1000)
		for _, before := range m.heard()[from:at] {
			require.NotContains(t, before, "READY=1")
		}
		return at, msg
	}

	// The sockets are left with the manager before it hears that the service is ready.
	_, stored := until("a socket is stored", 0, "FDSTORE=1")
	require.Regexp(t, `^FDSTORE=1\nFDPOLL=0\nFDNAME=holdfast=http%3D127\.0\.0\.1%3A0$`, stored)
	at, ready := until("READY=1 comes", 0, "MAINPID=")
	require.Regexp(t, `^MAINPID=\d+\nREADY=1\nWATCHDOG=1\nSTATUS=serving, generation 1, build .+$`, ready)
	require.Contains(t, m.heard()[:at], stored)

	old := p.Version().PID
	at, msg := reload()
	require.Contains(t, msg, "STATUS=upgrading from generation 1, build ")
	_, ready = until("READY=1 follows", at, "MAINPID=")
	require.NotContains(t, ready, fmt.Sprintf("MAINPID=%d\n", old))
	require.Regexp(t, `^MAINPID=\d+\nREADY=1\nWATCHDOG=1\nSTATUS=serving, generation 2, build .+; generation 1 still drains`, ready)
	gone(t, p, old)
	until("the end of the old one is told", at, "STATUS=serving, generation 2")

	// One that fails is answered, too, or the unit would stay "reloading".
	install(t, build(t, "./testdata/releases/exits"), path)
	at, _ = reload()
	_, ready = until("READY=1 follows", at, "MAINPID=")
	serving := regexp.MustCompile(`^MAINPID=(\d+)\nREADY=1\nSTATUS=serving, generation 2, build .+; upgrade failed \(start\): .+; process (\d+) goes on$`).FindStringSubmatch(ready)
	require.NotNil(t, serving, ready)
	require.Equal(t, serving[1], serving[2])

	// The pings are those of a self-check, several in the watchdog's time.
	from := len(m.heard())
	until("a ping", from, "WATCHDOG=1")
	signal(t, cmd.PIDFile, syscall.SIGTERM)
	until("the stop is told", from, "STOPPING=1\nSTATUS=stopping: 0 connections, 0 requests left, at most ")
}
