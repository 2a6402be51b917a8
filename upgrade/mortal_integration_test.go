//go:build integration && linux

package upgrade_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// mortal is the service of testdata/services/mortal, under a load of busy and idle
// connections.
type mortal struct {
	t *testing.T
	*load.Process
	cmd    load.Command
	dir    string
	runner *load.Runner
	idle   *flock
	held   net.Conn
}

// startMortal starts it with so many connections of each sort.
func startMortal(t *testing.T, busy, idle int, args ...string) *mortal {
	t.Helper()
	m := &mortal{t: t}
	m.prepare(args...)
	m.start(busy, idle)
	return m
}

// prepare makes its folder, where files for the first generation can be put.
func (m *mortal) prepare(args ...string) {
	m.t.Helper()
	m.dir = m.t.TempDir()
	m.cmd = load.Command{
		Binary: build(m.t, "./testdata/services/mortal"), Dir: m.dir, PIDFile: filepath.Join(m.dir, "server.pid"),
	}
	m.cmd.Args = append([]string{"--pid-file", m.cmd.PIDFile}, args...)
}

func (m *mortal) start(busy, idle int) {
	m.t.Helper()
	m.Process = start(m.t, m.cmd)
	m.t.Cleanup(func() {
		b, err := os.ReadFile(m.LogPath())
		require.NoError(m.t, err)
		for _, trouble := range []string{"DATA RACE", "panic", "not everything has ended"} {
			require.NotContains(m.t, string(b), trouble)
		}
	})
	m.idle = newFlock(m.t, m.Addr("http").Address, idle)
	m.runner = loadtest.Start(m.t, m.workload(busy))
	loadtest.Flowing(m.t, m.runner, int64(busy))
}

func (m *mortal) workload(busy int) load.Workload {
	return load.Workload{Kind: load.Echo, Conns: busy, Pause: 20 * time.Millisecond, Addr: m.Addr("http")}
}

// hold keeps the next takeover from its end until the new generation is dead, or, if
// ms is not 0, at most so long.
func (m *mortal) hold(ms int) {
	m.t.Helper()
	c, err := net.Dial("tcp", m.Addr("http").Address)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "GET /hold?ms=%d HTTP/1.1\r\nHost: x\r\n\r\n", ms)
	require.NoError(m.t, err)
	_, err = bufio.NewReader(c).ReadString('\n')
	require.NoError(m.t, err)
	m.held = c
}

// set writes one of the files that the next generation reads; empty removes it.
func (m *mortal) set(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if text == "" {
		require.NoError(m.t, os.RemoveAll(path))
		return
	}
	require.NoError(m.t, os.WriteFile(path, []byte(text), 0o600))
}

// event is a line of the log, as far as tests look at it.
type event struct {
	Message     string
	Level       string
	PID         int
	Generation  int
	Reason      string
	Connections int
	TakenBack   int `json:"taken_back"`
	Moved       int
	Refused     int
	Closed      int
	Retired     int `json:"silent_closed"`
	Dropped     int
	Hijacked    int
	Balances    *bool
}

// events are the lines of a log with this message.
func events(t *testing.T, path, message string) (found []event) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, message) {
			continue // most are of the access log
		}
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == message {
			found = append(found, e)
		}
	}
	return found
}

// lost is how many connections died with the new generation, by the old one's count.
func (m *mortal) lost() int {
	m.t.Helper()
	n := 0
	for _, e := range events(m.t, m.LogPath(), "connections lost with the new generation") {
		n += e.Connections
	}
	return n
}

// release ends what hold began.
func (m *mortal) release() {
	m.t.Helper()
	require.NoError(m.t, m.held.Close())
}

// seen is how many connections the clients have lost: each costs a request, or is
// found closed before the next one is sent.
func seen(c load.Counts, idle herd) int { return int(c.Failed()+c.Reconnects) + idle.lost }
