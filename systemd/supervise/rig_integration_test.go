//go:build integration && linux

package supervise

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "holdfast-build-")
	if err != nil {
		return "", err
	}
	buildDir = dir
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "holdfast"), ".")
	cmd.Dir = "../.."
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, b)
	}
	return filepath.Join(dir, "holdfast"), nil
})

// service is a real one, to be put under a supervise of some kind.
type service struct {
	t            *testing.T
	dir, binary  string
	pidFile, log string
	listen       string
	addr         load.Addr
	proc         string // where its pids are looked up
}

// newService prepares one; its directory's path is short enough for a socket in it.
func newService(t *testing.T, listen string) *service {
	t.Helper()
	binary, err := build()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "hf-")
	require.NoError(t, err)
	s := &service{t: t, dir: dir, binary: binary, listen: listen, proc: "/proc", pidFile: filepath.Join(dir, "app.pid"), log: filepath.Join(dir, "app.log")}
	t.Cleanup(func() {
		if t.Failed() {
			for _, path := range []string{s.log, s.path("stderr.log"), s.path("supervisord.log")} {
				if b, err := os.ReadFile(path); err == nil {
					t.Logf("%s:\n%s", path, b[max(0, len(b)-6000):])
				}
			}
		}
		_ = os.RemoveAll(dir)
	})
	return s
}

func (s *service) path(name string) string { return filepath.Join(s.dir, name) }

// serve is the command line of the service.
func (s *service) serve() []string {
	return []string{s.binary, "serve", "--identify", "--addr", s.listen, "--pid-file", s.pidFile, "--log-file", s.log, "--drain-timeout", "10s", "--log-level", "debug"}
}

// supervise is the command line of the parent with it.
func (s *service) supervise() []string {
	return append([]string{s.binary, "supervise", "--pid-file", s.pidFile, "--stop-timeout", "15s", "--log-level", "debug", "--"}, s.serve()...)
}

// start starts a parent, with its log in stderr.log. At the end of the test everything is ended.
func (s *service) start(args []string, more ...func(*exec.Cmd)) *running {
	s.t.Helper()
	f, err := os.OpenFile(s.path("stderr.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(s.t, err)
	defer func() { _ = f.Close() }()
	r := &running{t: s.t, cmd: exec.Command(args[0], args[1:]...), exited: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = f, f
	for _, m := range more {
		m(r.cmd)
	}
	require.NoError(s.t, r.cmd.Start())
	r.pid = r.cmd.Process.Pid
	go r.wait()
	s.t.Cleanup(func() {
		select {
		case <-r.exited:
		default:
			_ = syscall.Kill(r.pid, syscall.SIGTERM)
			late := time.AfterFunc(20*time.Second, func() { _ = r.cmd.Process.Kill() })
			<-r.exited
			late.Stop()
		}
	})
	return r
}

// running is a parent that runs.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	pid    int           // of supervise itself, as seen from here
	exited chan struct{} // closed when cmd has ended
}

func (r *running) wait() {
	defer close(r.exited)
	_ = r.cmd.Wait()
}

func (r *running) signal(sig syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, syscall.Kill(r.pid, sig))
}

// exits waits for the end and wants this code.
func (r *running) exits(code int) {
	r.t.Helper()
	select {
	case <-r.exited:
	case <-time.After(20 * time.Second):
		r.t.Fatal("it has not ended within 20 s")
	}
	require.Equal(r.t, code, r.cmd.ProcessState.ExitCode(), "%s", r.cmd.ProcessState)
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	require.Eventually(t, cond, 20*time.Second, 3*time.Millisecond, what)
}

var serving = regexp.MustCompile(`"addrs":\["(?:http=)?([^"]+)"\].*"message":"serving"|"message":"serving".*"addrs":\["(?:http=)?([^"]+)"\]`)

// serves waits until the service does, and notes where.
func (s *service) serves() load.Version {
	s.t.Helper()
	var v load.Version
	until(s.t, "it serves", func() bool {
		b, _ := os.ReadFile(s.log)
		m := serving.FindAllSubmatch(b, -1)
		if m == nil {
			return false
		}
		at := string(m[len(m)-1][1]) + string(m[len(m)-1][2])
		if path, ok := strings.CutPrefix(at, "unix:"); ok {
			s.addr = load.Addr{Network: "unix", Address: path}
		} else {
			s.addr = load.Addr{Network: "tcp", Address: at}
		}
		var err error
		v, err = load.AskVersion(context.Background(), s.addr)
		return err == nil && v.PID == s.named()
	})
	return v
}

// logs waits for a text in the service's log.
func (s *service) logs(text string) {
	s.t.Helper()
	until(s.t, "it logs "+text, func() bool {
		b, _ := os.ReadFile(s.log)
		return strings.Contains(string(b), text)
	})
}

// named is the pid in the PID file, 0 if there is none.
func (s *service) named() int {
	b, _ := os.ReadFile(s.pidFile)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return pid
}

// upgrade asks for one, and waits until the next generation serves.
func (s *service) upgrade(ask func()) load.Version {
	s.t.Helper()
	was, err := load.AskVersion(context.Background(), s.addr)
	require.NoError(s.t, err)
	ask()
	var v load.Version
	until(s.t, "the next generation serves", func() bool {
		v, err = load.AskVersion(context.Background(), s.addr)
		return err == nil && v.Generation == was.Generation+1 && v.PID == s.named()
	})
	return v
}

// lossless upgrades ten times under load, and wants every request answered, and the
// PID file right at every moment.
func (s *service) lossless(ask func()) {
	s.t.Helper()
	r, err := load.New(
		load.Workload{Name: "kept connections", Kind: load.Echo, Addr: s.addr, Conns: 16, Pause: 5 * time.Millisecond},
		load.Workload{Name: "new connections", Kind: load.Hello, Addr: s.addr, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond},
		load.Workload{Name: "slow", Kind: load.Slow, Addr: s.addr, Conns: 4, Duration: 100 * time.Millisecond},
	)
	require.NoError(s.t, err)
	watched := s.watch()
	r.Start(context.Background())
	defer r.Stop()
	for range 10 {
		s.upgrade(ask)
	}
	tally := r.Stop()
	looks, wrong := watched()
	for name, c := range tally.Workloads {
		s.t.Logf("10 upgrades, %s: sent %d, answered %d, failed %d, told to close %d, forced reconnects %d", name, c.Sent, c.Answered, c.Failed(), c.ToldToClose, c.Reconnects)
		require.Zero(s.t, c.Reconnects)
	}
	s.t.Logf("PID file: %d looks, wrong: %v", looks, wrong)
	require.NoError(s.t, tally.Err())
	require.Empty(s.t, wrong)
	require.Positive(s.t, looks)
}

// watch looks at the PID file all the time until it is told to stop.
func (s *service) watch() (stop func() (looks int, wrong []string)) {
	quit, done := make(chan struct{}), make(chan struct{})
	var looks int
	var wrong []string
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			looks++
			pid := s.named()
			if !s.alive(pid) && s.named() == pid { // not one that has just made way
				wrong = append(wrong, strconv.Itoa(pid))
			}
		}
	}()
	return func() (int, []string) { close(quit); <-done; return looks, wrong }
}

// alive looks a pid up where the service sees it.
func (s *service) alive(pid int) bool {
	b, err := os.ReadFile(filepath.Join(s.proc, strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// children lists those of a process by their state, zombies apart.
func children(t *testing.T, pid int) (living, zombies []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if f[1] != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		require.NoError(t, err)
		if f[0] == "Z" {
			zombies = append(zombies, child)
		} else {
			living = append(living, child)
		}
	}
	return living, zombies
}

// tidy wants one generation below the parent, and no zombie.
func tidy(t *testing.T, parent int) {
	t.Helper()
	until(t, "one child, no zombie", func() bool {
		living, zombies := children(t, parent)
		return len(living) == 1 && len(zombies) == 0
	})
}

// nothingLeft wants no process of the service any more, and no file that says otherwise.
func (s *service) nothingLeft() {
	s.t.Helper()
	require.NoFileExists(s.t, s.pidFile)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(s.t, err)
	for _, path := range lines {
		b, _ := os.ReadFile(path)
		require.NotContains(s.t, string(b), s.pidFile, "a process is left")
	}
}

func writePID(t *testing.T, path, pid string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(pid+"\n"), 0o644))
}

// exists looks a pid up here; a zombie does not count.
func exists(pid int) bool { return (&service{proc: "/proc"}).alive(pid) }
