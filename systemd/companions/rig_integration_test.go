//go:build integration

package companions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

const (
	blue  = "blue"
	green = "green"
)

// patience bounds each wait for something that has no event.
const patience = 30 * time.Second

// await waits for what has no event. Unlike require.Eventually it asks in the test's own
// goroutine, where a condition may give up the test.
func await(t testing.TB, cond func() bool, format string, args ...any) {
	t.Helper()
	if !poll(cond) {
		require.FailNow(t, fmt.Sprintf(format, args...))
	}
}

func poll(cond func() bool) bool {
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// build compiles the server, once.
var build = sync.OnceValues(func() (string, error) {
	var err error
	if buildDir, err = os.MkdirTemp("", "holdfast-build-"); err != nil {
		return "", err
	}
	out := filepath.Join(buildDir, "holdfast")
	cmd := exec.Command("go", "build", "-o", out, ".")
	cmd.Dir = "../.."
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, b)
	}
	return out, nil
})

// shortDir is a directory whose name leaves room for a Unix socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// freeAddr is an address that nobody takes between two starts of who listens there: on
// a loopback address of its own, with a port that the kernel gives to no one.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		//nolint:gosec // chance is good enough here
		addr := fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254), 20000+rand.IntN(10000))
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			require.NoError(t, ln.Close())
			return addr
		}
	}
	require.FailNow(t, "no address is free")
	return ""
}

// pair is a service with two instances, each at an address that does not change.
type pair struct {
	t    testing.TB
	args []string
	addr map[string]string // by color
	live map[string]*instance

	asked int // questions of serves
}

// instance is one of them, from a start to its stop.
type instance struct {
	*load.Process
	cmd load.Command
}

// newPair starts none yet; args are of both.
func newPair(t testing.TB, args ...string) *pair {
	return &pair{
		t: t, args: args, live: map[string]*instance{},
		addr: map[string]string{blue: freeAddr(t), green: freeAddr(t)},
	}
}

// start starts an instance, which is ready then.
func (p *pair) start(color string) *instance {
	p.t.Helper()
	binary, err := build()
	require.NoError(p.t, err)
	i := &instance{cmd: load.Serve(binary, shortDir(p.t), p.addr[color])}
	i.cmd.Args = append(i.cmd.Args, p.args...)
	i.Process, err = i.cmd.Start(context.Background())
	require.NoError(p.t, err)
	p.t.Cleanup(i.Kill) // does nothing after a Stop
	p.live[color] = i
	return i
}

// stop ends an instance by SIGTERM, and wants it to cut nothing.
func (p *pair) stop(color string) {
	p.t.Helper()
	i := p.live[color]
	delete(p.live, color)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(p.t, i.Stop(ctx))
	log := readServerLog(p.t, i.LogPath())
	require.Zero(p.t, log.dropped, "%s has cut connections", color)
}

// upgrade replaces an instance in place, and waits for the end of the old generation.
func (p *pair) upgrade(color string) load.Upgraded {
	p.t.Helper()
	u, err := p.live[color].Upgrade(context.Background())
	require.NoError(p.t, err)
	return u
}

func (p *pair) gone(color string, pid int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(p.t, p.live[color].WaitGone(ctx, pid))
}

// quiet waits until an instance has no request, as `holdfast status` says.
func (p *pair) quiet(color string) {
	p.t.Helper()
	await(p.t, func() bool {
		return p.status(color).Connections.Requests == 0
	}, "%s still has requests", color)
}

func (p *pair) status(color string) report.Status {
	p.t.Helper()
	c := control.NewClient(handoff.Address{Network: "unix", Addr: p.live[color].cmd.PIDFile + ".admin"}, "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := c.Status(ctx)
	require.NoError(p.t, err)
	return s
}

// roll replaces both instances in turn, three times, under load on both.
func (p *pair) roll(r *load.Runner, replace func(color, other string)) (replaced int) {
	p.t.Helper()
	loadtest.Flowing(p.t, r, 50)
	for range 3 {
		for i := range 2 {
			color, other := colors(i)
			old := p.live[color].Version().PID
			replace(color, other)
			require.NotEqual(p.t, old, p.live[color].Version().PID)
			loadtest.Flowing(p.t, r, 50)
			replaced++
		}
	}
	return replaced
}

func colors(i int) (from, to string) {
	if i%2 == 0 {
		return blue, green
	}
	return green, blue
}

// serves wants this instance, and no other, to answer at addr.
func (p *pair) serves(addr load.Addr, color string) {
	p.t.Helper()
	for range 4 { // as many as would meet the other one in turn
		v, err := load.AskVersion(context.Background(), addr)
		require.NoError(p.t, err)
		p.asked++
		require.Equal(p.t, p.live[color].Version().PID, v.PID, "%s answers", color)
	}
}

// kept and fresh are loads of POST, on connections that are kept and on new ones.
func kept(addr load.Addr) load.Workload {
	return load.Workload{Name: "kept", Kind: load.Echo, Addr: addr, Conns: 16, Pause: 20 * time.Millisecond}
}

func fresh(addr load.Addr) load.Workload {
	return load.Workload{Name: "new", Kind: load.Echo, Addr: addr, Conns: 8, Pause: 20 * time.Millisecond, NewConn: true}
}

func sockets(addr load.Addr) load.Workload {
	return load.Workload{Name: "sockets", Kind: load.WebSocket, Addr: addr, Conns: 8, Pause: 20 * time.Millisecond}
}

// serverLog is what the generations of an instance have logged.
type serverLog struct {
	posts                    map[string]int  // how often each request id of a POST has been answered
	peers                    map[string]bool // where they came from
	atDrain, silent, dropped int             // connections: when drains began, and of them
}

func readServerLog(t testing.TB, path string) serverLog {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	log := serverLog{posts: make(map[string]int), peers: make(map[string]bool)}
	for line := range strings.Lines(string(b)) {
		var l struct {
			Level, Message, Method, Path, Peer string
			ID                                 string `json:"request_id"`
			Connections, Dropped               int
			Silent                             int `json:"silent_closed"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &l), line)
		if l.Path != "/readyz" { // there, 503 is a good answer
			require.Contains(t, []string{"debug", "info"}, l.Level, line)
		}
		switch {
		case l.Message == "drained":
			log.atDrain += l.Connections
			log.silent += l.Silent
			log.dropped += l.Dropped
		case l.Message == "request" && l.Method == "POST":
			log.posts[l.ID]++
			log.peers[l.Peer] = true
		}
	}
	return log
}

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

// accepts waits until somebody listens at addr, or the program has ended.
func (c *child) accepts(network, addr string) bool {
	c.t.Helper()
	await(c.t, func() bool {
		conn, err := net.Dial(network, addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil || !c.running()
	}, "%s does not listen", c.cmd.Path)
	return c.running()
}

// end asks for its end, which must be a good one that leaves nobody behind.
func (c *child) end(sig syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(sig))
	select {
	case <-c.exited:
	case <-time.After(patience):
		require.FailNow(c.t, "does not end", c.cmd.Path)
	}
	require.NoError(c.t, c.status)
	require.ErrorIs(c.t, syscall.Kill(-c.cmd.Process.Pid, 0), syscall.ESRCH, "%s has left a process behind", c.cmd.Path)
}
