//go:build integration

package companions_test

import (
	"encoding/csv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// haproxy is a process of it, and a directory of its own.
type haproxy struct {
	*child
	dir  string
	addr load.Addr // where it listens
}

// startHAProxy starts the shipped haproxy.cfg in front of a pair, and returns when it
// knows which of the two are up.
func startHAProxy(t testing.TB, p *pair) *haproxy {
	t.Helper()
	h := &haproxy{child: &child{t: t}, dir: shortDir(t), addr: load.Addr{Network: "tcp", Address: freeAddr(t)}}
	binary := loadtest.Tool(t, "haproxy")
	conf, err := os.ReadFile("haproxy.cfg")
	require.NoError(t, err)
	text := strings.NewReplacer(
		"/run/haproxy/", h.dir+"/", "bind :80\n", "bind "+h.addr.Address+"\n",
		"127.0.0.1:8081", p.addr[blue], "127.0.0.1:8082", p.addr[green],
	).Replace(string(conf))
	if os.Geteuid() != 0 {
		text = strings.NewReplacer("  user haproxy\n", "", "  group haproxy\n", "").Replace(text)
	}
	require.NoError(t, os.WriteFile(h.path("haproxy.cfg"), []byte(text), 0o600))
	cmd := exec.Command(binary, "-db", "-f", h.path("haproxy.cfg"))
	log, err := os.Create(h.path("log"))
	require.NoError(t, err)
	cmd.Stdout = log // standard error says the same, but for the requests
	h.child = startChild(t, cmd)
	require.NoError(t, log.Close())
	require.True(t, h.accepts("tcp", h.addr.Address) && h.accepts("unix", h.path("admin.sock")), "haproxy has ended")
	for _, color := range []string{blue, green} {
		want := "DOWN"
		if p.live[color] != nil {
			want = "UP"
		}
		h.becomes(color, want)
	}
	return h
}

func (h *haproxy) path(name string) string { return filepath.Join(h.dir, name) }

// ask sends a command to the stats socket and returns the answer.
func (h *haproxy) ask(command string) string {
	h.t.Helper()
	c, err := net.Dial("unix", h.path("admin.sock"))
	require.NoError(h.t, err)
	defer func() { _ = c.Close() }()
	require.NoError(h.t, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, command+"\n")
	require.NoError(h.t, err)
	b, err := io.ReadAll(c)
	require.NoError(h.t, err)
	return strings.TrimSpace(string(b))
}

// set is the operator's command: ready or drain.
func (h *haproxy) set(color, state string) {
	h.t.Helper()
	require.Empty(h.t, h.ask("set server holdfast/"+color+" state "+state))
}

// stats is what HAProxy says of the backend's servers, by their names, and of it as a
// whole, as BACKEND: columns and values.
func (h *haproxy) stats() map[string]map[string]string {
	h.t.Helper()
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(h.ask("show stat"), "# "))).ReadAll()
	require.NoError(h.t, err)
	all := map[string]map[string]string{}
	for _, row := range rows[1:] {
		values := map[string]string{}
		for i, column := range rows[0] {
			values[column] = row[i]
		}
		if values["pxname"] == "holdfast" {
			all[values["svname"]] = values
		}
	}
	return all
}

// becomes waits until HAProxy has this opinion of a server, by a check of its own.
func (h *haproxy) becomes(color, want string) {
	h.t.Helper()
	await(h.t, func() bool {
		s := h.stats()[color]
		return s["status"] == want && s["check_status"] != "INI"
	}, "%s does not become %s", color, want)
}

// drains takes a server out, and waits until it has no request.
func (h *haproxy) drains(color string) {
	h.t.Helper()
	h.set(color, "drain")
	await(h.t, func() bool {
		s := h.stats()[color]
		return s["status"] == "DRAIN" && s["scur"] == "0"
	}, "%s does not drain", color)
}

func (h *haproxy) log() string {
	h.t.Helper()
	b, err := os.ReadFile(h.path("log"))
	require.NoError(h.t, err)
	return string(b)
}

// stop ends HAProxy gracefully.
func (h *haproxy) stop() {
	h.t.Helper()
	h.end(syscall.SIGUSR1)
}

var (
	haproxyRequest = regexp.MustCompile(`\] holdfast/(\w+) "(POST|GET) (\S+) HTTP/1\.1" (200|101) end=-- retries=0 time=\d+ id=(\S+)$`)
	// What is not about a request: a server that comes or goes, and HAProxy's own end.
	haproxyNotice = regexp.MustCompile(`^(Server holdfast/\w+ |Proxy )`)
)

// bad are the lines of the log that say anything but that a request was answered well.
func (h *haproxy) bad() (lines []string) {
	h.t.Helper()
	for line := range strings.Lines(h.log()) {
		line = strings.TrimSpace(line)
		if !haproxyRequest.MatchString(line) && !haproxyNotice.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// settle ends HAProxy and compares what it has counted with what the clients have sent.
// Its log does for what was bad; it may miss lines, its counters miss nothing. asked are
// requests that were not the load's.
func (h *haproxy) settle(tally load.Tally, asked int, what string) {
	h.t.Helper()
	c := tally.Workloads["kept"].Add(tally.Workloads["new"])
	good, sockets := strconv.FormatInt(c.Sent+int64(asked), 10), strconv.FormatInt(tally.Workloads["sockets"].Connects, 10)
	var all map[string]string
	poll(func() bool { // it counts a request when that is over, a moment after the client had the answer
		all = h.stats()["BACKEND"]
		return all["hrsp_2xx"] == good && all["hrsp_1xx"] == sockets || tally.Err() != nil
	})
	h.stop()
	h.t.Logf("%s: %d requests sent, %d answered, %d connections; HAProxy counted %s answers of 2xx and %s of 1xx",
		what, c.Sent, c.Answered, c.Connects, all["hrsp_2xx"], all["hrsp_1xx"])
	require.NoError(h.t, tally.Err())
	require.Zero(h.t, c.Reconnects, "a connection was closed silently")
	for _, column := range []string{"econ", "eresp", "wretr", "wredis", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other"} {
		require.Equal(h.t, "0", all[column], column)
	}
	require.Empty(h.t, h.bad())
	require.Equal(h.t, good, all["hrsp_2xx"], "HAProxy has had an answer of 200 to everything, once")
	require.Equal(h.t, sockets, all["hrsp_1xx"], "and of 101 to each WebSocket")
}
