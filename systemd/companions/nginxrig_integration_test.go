//go:build integration

package companions_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// The logs of nginx, in its directory.
const (
	accessLog = "access.log"
	errorLog  = "error.log"
)

// nginx is a master with its workers, and a directory of its own.
type nginx struct {
	*child
	binary, dir string
	addr        load.Addr // where it listens
}

// startNginx starts the shipped nginx.conf in front of two upstreams, the first of
// which may be a Unix socket, and returns when it accepts.
func startNginx(t testing.TB, blueAddr, greenAddr, live string) *nginx {
	t.Helper()
	n := &nginx{child: &child{t: t}, binary: loadtest.Tool(t, "nginx"), dir: shortDir(t), addr: load.Addr{Network: "tcp", Address: freeAddr(t)}}
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // another one could not write to the test's directory
	}
	var paths []string // of the system's service, if they were not set
	for _, what := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths = append(paths, what+"_temp_path "+n.path(what)+";")
	}
	conf, err := os.ReadFile("nginx.conf")
	require.NoError(t, err)
	n.write("nginx.conf", strings.NewReplacer(
		"user www-data;", user, "/run/nginx.pid", n.path("nginx.pid"), "/etc/nginx/", n.dir+"/", "/var/log/nginx/", n.dir+"/",
		"http {", "http {\n"+strings.Join(paths, "\n"),
		"127.0.0.1:8081", blueAddr, "127.0.0.1:8082", greenAddr, "listen 80;", "listen "+n.addr.Address+";",
	).Replace(string(conf)))
	shipped, err := os.ReadFile("holdfast-live.conf")
	require.NoError(t, err)
	n.write("holdfast-live.conf", strings.Replace(string(shipped), "both;", live+";", 1))

	n.child = startChild(t, exec.Command(n.binary, n.args("-g", "daemon off;")...))
	require.True(t, n.accepts("tcp", n.addr.Address), "nginx has ended: %s", n.read(errorLog))
	return n
}

func (n *nginx) args(more ...string) []string {
	return append([]string{"-p", n.dir, "-e", n.path(errorLog), "-c", n.path("nginx.conf")}, more...)
}

// live switches by a reload, and returns when the last worker from before has ended.
func (n *nginx) live(which string) {
	n.t.Helper()
	n.write("holdfast-live.conf", "set $live "+which+";\n")
	old := n.workers()
	require.NotEmpty(n.t, old)
	for _, args := range [][]string{{"-t"}, {"-s", "reload"}} {
		out, err := exec.Command(n.binary, n.args(args...)...).CombinedOutput()
		require.NoError(n.t, err, "%s", out)
	}
	await(n.t, func() bool {
		now := n.workers()
		for pid := range old {
			if now[pid] {
				return false
			}
		}
		return len(now) > 0
	}, "the old workers do not end")
}

var workerLine = regexp.MustCompile(`: (?:start worker process (\d+)|worker process (\d+) exited with code 0)`)

// workers are those that the error log knows to live.
func (n *nginx) workers() map[string]bool {
	n.t.Helper()
	now := map[string]bool{}
	for _, m := range workerLine.FindAllStringSubmatch(n.read(errorLog), -1) {
		if m[1] != "" {
			now[m[1]] = true
		}
		delete(now, m[2])
	}
	return now
}

// takeOut and putBack switch without a reload.
func (n *nginx) takeOut(color string) { n.t.Helper(); n.write("holdfast-"+color+".out", "") }

func (n *nginx) putBack(color string) {
	n.t.Helper()
	require.NoError(n.t, os.Remove(n.path("holdfast-"+color+".out")))
}

// stop ends nginx gracefully: the master waits for its workers.
func (n *nginx) stop() {
	n.t.Helper()
	n.end(syscall.SIGQUIT)
}

func (n *nginx) path(name string) string { return filepath.Join(n.dir, name) }

func (n *nginx) write(name, text string) {
	n.t.Helper()
	require.NoError(n.t, os.WriteFile(n.path(name), []byte(text), 0o600))
}

func (n *nginx) read(name string) string {
	n.t.Helper()
	b, err := os.ReadFile(n.path(name))
	require.NoError(n.t, err)
	return string(b)
}

var trouble = regexp.MustCompile(`\[(warn|error|crit|alert|emerg)\]`)

// troubles are the lines of the error log that are more than information.
func (n *nginx) troubles() (lines []string) {
	for line := range strings.Lines(n.read(errorLog)) {
		if trouble.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// proxied is what a proxy has logged.
type proxied struct {
	posts       map[string]int  // how often each id of a POST that one upstream has answered, at once, with 200
	connections map[string]bool // of clients, that these came on
	sockets     int             // WebSockets that have ended
	bad         []string        // lines of anything else
}

var requestLine = regexp.MustCompile(`"(POST|GET) (\S+) HTTP/1\.1" (200|101) upstream=(\S+) upstream_status=(\S+) time=\S+ connection=(\d+) id=(\S+)$`)

func (n *nginx) requests() proxied {
	n.t.Helper()
	p := proxied{posts: make(map[string]int), connections: make(map[string]bool)}
	for line := range strings.Lines(n.read(accessLog)) {
		m := requestLine.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		// A second upstream would come after a comma and a space.
		case m == nil || m[3] != m[5]:
			p.bad = append(p.bad, line)
		case m[3] == "101":
			p.sockets++
		case m[1] == "POST":
			p.posts[m[7]]++
			p.connections[m[6]] = true
		}
	}
	return p
}
