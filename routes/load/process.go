package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is a server to be put under load.
type Command struct {
	Binary string   // path
	Args   []string // as they are
	Env    []string // added to the environment of this process

	Dir     string // where its stderr is kept, as stderr.log; must exist
	PIDFile string // the one that Args name
	Log     string // where it writes its log as JSON lines; default its stderr

	// Addrs are its addresses by name. Default: those of its log line "serving".
	Addrs map[string]Addr
	// TLS is used at every address of the log line; nil: none. A server that Args give
	// a certificate serves TLS on all of its listeners.
	TLS *tls.Config
	// StartTimeout bounds Start; default 15 s.
	StartTimeout time.Duration
	// UpgradeTimeout bounds Upgrade; default 30 s.
	UpgradeTimeout time.Duration
}

// Serve is the Command "binary serve" with these addresses, identified, with its PID
// file and its log in dir. More arguments can be appended to its Args.
func Serve(binary, dir string, addrs ...string) Command {
	c := Command{
		Binary: binary, Dir: dir, PIDFile: filepath.Join(dir, "server.pid"),
		Args: []string{"serve", "--identify", "--log-format", "json"},
	}
	c.Args = append(c.Args, "--pid-file", c.PIDFile)
	for _, a := range addrs {
		c.Args = append(c.Args, "--addr", a)
	}
	return c
}

// Process is a server with all of its generations. Its methods may be called from
// any goroutine, Upgrade and Stop one at a time.
type Process struct {
	cmd    Command
	child  *exec.Cmd
	exited chan struct{} // closed when the first generation has been reaped
	status error         // of the first generation, once exited is closed
	stderr string        // path
	addrs  map[string]Addr
	first  string // name of the address that is asked for the version

	mu    sync.Mutex // guards what follows
	lives []*life    // the generations that are known, oldest first
	now   Version    // of the generation that served last
}

// Start starts the server and returns when it serves: it has said where, its PID file
// names a process, and that process answers GET /version there. The server is in a
// process group of its own, so that Ctrl-C does not reach it. Whatever the end of ctx,
// which bounds only Start, the caller must call Stop or Kill.
func (c Command) Start(ctx context.Context) (*Process, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.StartTimeout, 15*time.Second))
	defer cancel()
	p := &Process{cmd: c, exited: make(chan struct{}), stderr: filepath.Join(c.Dir, "stderr.log")}
	// A file and not a pipe: later generations inherit it, and outlive our child.
	f, err := os.OpenFile(p.stderr, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("load: start: %w", err)
	}
	defer func() { _ = f.Close() }()
	p.child = exec.Command(c.Binary, c.Args...) //nolint:gosec // the caller's own
	p.child.Env = append(os.Environ(), c.Env...)
	p.child.Stdout, p.child.Stderr = f, f
	p.child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.child.Start(); err != nil {
		return nil, fmt.Errorf("load: start: %w", err)
	}
	if _, err := p.hold(p.child.Process.Pid); err != nil {
		_ = p.child.Process.Kill()
		_ = p.child.Wait()
		return nil, err
	}
	go p.reap()
	if err := p.awaitServing(ctx); err != nil {
		p.Kill()
		return nil, fmt.Errorf("load: start %s %s: %w; its last words:\n%s",
			c.Binary, strings.Join(c.Args, " "), err, lastLines(p.stderr))
	}
	return p, nil
}

// reap waits for the first generation, the only one that is our child. Stop and Kill
// wait for it.
func (p *Process) reap() {
	defer close(p.exited)
	p.status = p.child.Wait()
}

func (p *Process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// errExited: the first generation ended where it should not have.
var errExited = errors.New("the process has exited")

func (p *Process) awaitServing(ctx context.Context) error {
	log := logTail{path: cmp.Or(p.cmd.Log, p.stderr)}
	p.addrs = p.cmd.Addrs
	err := poll(ctx, func() (bool, error) {
		if p.hasExited() {
			return false, fmt.Errorf("%w: %w", errExited, p.status)
		}
		if len(p.addrs) > 0 {
			return true, nil
		}
		named, err := log.serving()
		p.setAddrs(named)
		return named != nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the log line %q: %w", "serving", err)
	}
	if _, p.first = p.pick(); p.first == "" {
		return errors.New("it serves at no address")
	}
	var last error
	err = poll(ctx, func() (bool, error) {
		if p.hasExited() {
			return false, fmt.Errorf("%w: %w", errExited, p.status)
		}
		var v Version
		v, last = p.servesAs(ctx)
		if last == nil {
			p.mu.Lock()
			p.now = v
			p.mu.Unlock()
		}
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for /version and the PID file: %w", withCause(err, last))
	}
	return nil
}

func (p *Process) setAddrs(named []string) {
	if named == nil {
		return
	}
	p.addrs = make(map[string]Addr)
	for _, s := range named {
		name, addr := parseAddr(s)
		addr.TLS = p.cmd.TLS
		p.addrs[name] = addr
	}
}

// pick chooses the address to ask for the version: "http", or the first by name.
func (p *Process) pick() (Addr, string) {
	if a, ok := p.addrs["http"]; ok {
		return a, "http"
	}
	names := make([]string, 0, len(p.addrs))
	for name := range p.addrs {
		names = append(names, name)
	}
	if len(names) == 0 {
		return Addr{}, ""
	}
	slices.Sort(names)
	return p.addrs[names[0]], names[0]
}

// servesAs returns the version of the process that both the PID file and /version
// name.
func (p *Process) servesAs(ctx context.Context) (Version, error) {
	pid, err := p.readPIDFile()
	if err != nil {
		return Version{}, err
	}
	v, err := AskVersion(ctx, p.addrs[p.first])
	if err != nil {
		return Version{}, err
	}
	if v.PID != pid {
		return Version{}, fmt.Errorf("the PID file names %d, and %d answers", pid, v.PID)
	}
	return v, nil
}

func (p *Process) readPIDFile() (int, error) {
	b, err := os.ReadFile(p.cmd.PIDFile)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("PID file holds %q", b)
	}
	return pid, nil
}

// hold remembers a generation by its pid.
func (p *Process) hold(pid int) (*life, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lives {
		if l.pid == pid && !l.ended() {
			return l, nil
		}
	}
	l, err := holdLife(pid)
	if err == nil {
		p.lives = append(p.lives, l)
	}
	return l, err
}

// Addr is where the server listens under this name, "http" for instance. It is the
// zero Addr, which no Workload accepts, if there is none.
func (p *Process) Addr(name string) Addr { return p.addrs[name] }

// Version is the generation that was last seen to serve.
func (p *Process) Version() Version {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// LogPath is the file that the server logs to.
func (p *Process) LogPath() string { return cmp.Or(p.cmd.Log, p.stderr) }
