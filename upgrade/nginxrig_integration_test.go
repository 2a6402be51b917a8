//go:build integration

package upgrade_test

import (
	"bytes"
	"encoding/json"
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
)

// child is a program that ends with the test, with all that it has started.
type child struct {
	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has been reaped
	status error         // once exited is closed
}

func startChild(t testing.TB, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{t: t, cmd: cmd, exited: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	go func() { defer close(c.exited); c.status = cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nobody, after end
		<-c.exited
	})
	return c
}

func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// end asks for its end, which must be a good one that leaves nobody behind.
func (c *child) end(sig syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(sig))
	select {
	case <-c.exited:
	case <-time.After(20 * time.Second):
		require.FailNow(c.t, "does not end", c.cmd.Path)
	}
	require.NoError(c.t, c.status)
	require.ErrorIs(c.t, syscall.Kill(-c.cmd.Process.Pid, 0), syscall.ESRCH, "%s has left a process behind", c.cmd.Path)
}

// The logs of nginx, in its prefix.
const (
	accessLog = "access.log"
	errorLog  = "error.log"
)

// nginx is a master with its worker, and a directory of its own.
type nginx struct {
	*child
	dir  string
	addr string // where it listens
}

// startNginx starts nginx in front of upstream, and returns when it accepts.
func startNginx(t testing.TB, binary, upstream string) *nginx {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &nginx{dir: t.TempDir(), addr: ln.Addr().String()}
	require.NoError(t, ln.Close())
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // another one could not write to the test's directory
	}
	conf, err := os.ReadFile("../testdata/nginx/nginx.conf")
	require.NoError(t, err)
	text := strings.NewReplacer("@USER@", user, "@UPSTREAM@", upstream, "@LISTEN@", n.addr).Replace(string(conf))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "nginx.conf"), []byte(text), 0o600))

	n.child = startChild(t, exec.Command(binary, "-p", n.dir, "-e", errorLog, "-c", "nginx.conf"))
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil || !n.running()
	}, 10*time.Second, 5*time.Millisecond, "nginx does not listen")
	require.True(t, n.running(), "nginx has ended: %s", n.read(errorLog))
	return n
}

// stop ends nginx gracefully: the master waits for its workers.
func (n *nginx) stop() {
	n.t.Helper()
	n.end(syscall.SIGQUIT)
}

func (n *nginx) path(log string) string { return filepath.Join(n.dir, log) }

func (n *nginx) read(log string) string {
	n.t.Helper()
	b, err := os.ReadFile(n.path(log))
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

// requests is what nginx has logged: how often there is each request id that was
// answered with 200 by the upstream, all other lines, and the number of connections
// that clients have used.
func (n *nginx) requests(upstream string) (ids map[string]int, clients int, bad []string) {
	n.t.Helper()
	good := "200 200 " + upstream + " "
	ids = make(map[string]int)
	seen := make(map[string]bool)
	for line := range strings.Lines(n.read(accessLog)) {
		connection, id, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), good), " ")
		if !ok || !strings.HasPrefix(line, good) {
			bad = append(bad, line)
			continue
		}
		seen[connection] = true
		ids[id]++
	}
	return ids, len(seen), bad
}

// wrk is under way until stop.
type wrk struct {
	*child
	conns   int
	silence string // the file that makes it fall silent
	out     bytes.Buffer
}

// wrkCounts is what testdata/nginx/post.lua prints.
type wrkCounts struct {
	Requests                              int64
	Connect, Read, Write, Timeout, Status int64 // errors
}

func startWrk(t testing.TB, binary, url string, conns int) *wrk {
	t.Helper()
	w := &wrk{conns: conns, silence: filepath.Join(t.TempDir(), "silence")}
	cmd := exec.Command(binary, "--threads", "2", "--connections", strconv.Itoa(conns), "--duration", "2m", "--timeout", "10s",
		"--script", "../testdata/nginx/post.lua", url, "--", w.silence)
	cmd.Stdout, cmd.Stderr = &w.out, &w.out
	w.child = startChild(t, cmd)
	return w
}

// stop ends wrk when it has no request under way.
func (w *wrk) stop() (counts wrkCounts) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.silence, nil, 0o600))
	require.Eventually(w.t, func() bool {
		info, err := os.Stat(w.silence)
		return err == nil && info.Size() == int64(w.conns) || !w.running()
	}, 20*time.Second, 5*time.Millisecond, "a connection of wrk waits for its answer")
	require.True(w.t, w.running(), "wrk has ended before it was told to")
	w.end(syscall.SIGINT)
	last := w.out.Bytes()[bytes.LastIndexByte(bytes.TrimSpace(w.out.Bytes()), '\n')+1:]
	require.NoError(w.t, json.Unmarshal(last, &counts), w.out.String())
	return counts
}
