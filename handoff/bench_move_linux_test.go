package handoff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// moving is how many connections move at once.
const moving = 10_000

// BenchmarkMove measures what it costs to move idle connections, each with a
// request behind it, to another process: Holdfast beside the bare passing of as many
// descriptors (SCM_RIGHTS in full batches, and a close on either side), and beside
// that and a net.FileConn of each. ns/conn is the time until the old process has
// let go of all of them, ready-ns/conn until each waits for its next request in
// the new one, cpu-ns/conn what both processes used until then.
//
//	go test -run - -bench Move -benchtime 5x -count 6 ./handoff | benchstat -col /by -
func BenchmarkMove(b *testing.B) {
	// Go raises the soft limit to the hard one when it starts.
	var lim unix.Rlimit
	require.NoError(b, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Cur < moving+2*fileReserve {
		b.Skipf("RLIMIT_NOFILE is %d: too low for %d connections", lim.Cur, moving)
	}
	b.Run("by=rights", func(b *testing.B) { benchRights(b, "bare") })
	b.Run("by=fileconn", func(b *testing.B) { benchRights(b, "fileconn") })
	b.Run("by=holdfast", benchMove)
}

// costs are what a benchmark adds up over its rounds.
type costs struct{ moved, ready, cpu time.Duration }

func (c costs) report(b *testing.B) {
	per := func(d time.Duration) float64 { return float64(d) / float64(b.N) / moving }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(per(c.moved), "ns/conn")
	b.ReportMetric(per(c.ready), "ready-ns/conn")
	b.ReportMetric(per(c.cpu), "cpu-ns/conn")
}

func benchMove(b *testing.B) {
	clients := startRole(b, "clients", nil)
	set := NewSet(none{}, nil, BindOptions{})
	lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(b, err)
	s, err := NewServer(&http.Server{Handler: ok, IdleTimeout: time.Minute})
	require.NoError(b, err)
	s.Start(lns[0], func(err error) { b.Error(err) })
	defer func() { _ = set.Close(); s.Wait(); s.cut() }()

	var sum costs
	for b.Loop() {
		b.StopTimer()
		clients.ask(b, "dial "+lns[0].Addr().String())
		for s.Counts().Silent < moving {
			time.Sleep(time.Millisecond)
		}
		// A process of its own each time, which grows its heap as in an upgrade.
		link, remote, err := NewLink()
		require.NoError(b, err)
		next := startRole(b, "next", remote)
		peer := NewPeer(link, nil, time.Minute)
		ended := make(chan struct{})
		go func() { defer close(ended); _ = peer.Listen(func(Message) {}) }()
		next.ask(b, "begin")
		runtime.GC()
		used := cpuTime()
		began := time.Now()
		b.StartTimer()

		err = s.Move(context.Background(), peer.Sender())
		sum.moved += time.Since(began)
		theirs := next.ask(b, "ready")
		sum.ready += time.Since(began)

		b.StopTimer()
		sum.cpu += cpuTime() - used + time.Duration(theirs)
		require.NoError(b, err)
		_, refused := peer.Sender().Counts()
		require.Zero(b, refused)
		s.Stay()
		next.stop()
		_ = link.Close()
		<-ended
		clients.ask(b, "close")
		b.StartTimer()
	}
	sum.report(b)
}

// benchRights passes duplicates of a few connections: what is measured is the work
// for each descriptor.
func benchRights(b *testing.B, how string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer func() { _ = ln.Close() }()
	var conns []int
	defer func() { closeAll(conns) }()
	for range maxFiles {
		c, err := dialRaw(ln.Addr().String())
		require.NoError(b, err)
		conns = append(conns, c)
	}
	link, remote, err := NewLink()
	require.NoError(b, err)
	defer func() { _ = link.Close() }()
	next := startRole(b, how, remote)

	var sum costs
	ack := make([]byte, 1)
	for b.Loop() {
		b.StopTimer()
		batches := [][]int{}
		for left := moving; left > 0; left -= maxFiles {
			var batch []int
			for _, c := range conns[:min(left, maxFiles)] {
				fd, err := unix.FcntlInt(uintptr(c), unix.F_DUPFD_CLOEXEC, 0)
				require.NoError(b, err)
				batch = append(batch, fd)
			}
			batches = append(batches, batch)
		}
		next.ask(b, "begin")
		runtime.GC()
		used := cpuTime()
		began := time.Now()
		b.StartTimer()

		for _, batch := range batches {
			_, _, err := link.conn.WriteMsgUnix([]byte{1}, unix.UnixRights(batch...), nil)
			if err == nil {
				_, err = link.conn.Read(ack)
			}
			if err != nil {
				b.Fatal(err)
			}
			closeAll(batch)
		}
		sum.moved += time.Since(began)
		theirs := next.ask(b, "ready")
		sum.ready += time.Since(began)

		b.StopTimer()
		sum.cpu += cpuTime() - used + time.Duration(theirs)
		next.ask(b, "end")
		b.StartTimer()
	}
	sum.report(b)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// dialRaw connects without the runtime's poller, which the clients of a benchmark
// must not keep busy.
func dialRaw(addr string) (int, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// child is the test binary in a role. It answers each line with a number.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startRole starts one, with file as its descriptor 3, which is closed here. It
// lives until the end of the benchmark.
func startRole(b *testing.B, role string, file *os.File) *child {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stderr = os.Stderr
	if file != nil {
		defer func() { _ = file.Close() }()
		cmd.ExtraFiles = []*os.File{file}
	}
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	c := &child{cmd, in, bufio.NewReader(out)}
	b.Cleanup(c.stop)
	return c
}

// stop ends the child and waits for it. It may be called again.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

func (c *child) ask(b *testing.B, line string) int {
	b.Helper()
	_, err := fmt.Fprintln(c.in, line)
	require.NoError(b, err)
	answer, err := c.out.ReadString('\n')
	require.NoError(b, err)
	n, err := strconv.Atoi(strings.TrimSpace(answer))
	require.NoError(b, err)
	return n
}

// obey is a child's main loop.
func obey(do func(line string) (int, error)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n, err := do(lines.Text())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

func init() {
	roles["clients"] = benchClients
	roles["next"] = benchNext
	roles["bare"] = func() { benchTakeRights(func(fd int) { _ = unix.Close(fd) }) }
	roles["fileconn"] = func() {
		benchTakeRights(func(fd int) {
			f := os.NewFile(uintptr(fd), "connection")
			c, err := net.FileConn(f)
			if err == nil {
				_ = c.Close()
			}
			_ = f.Close()
		})
	}
}

// benchClients makes the connections, and has a request answered on each.
func benchClients() {
	var conns []int
	answer := make([]byte, bufferSize)
	obey(func(line string) (int, error) {
		if line == "close" {
			for _, c := range conns {
				// With a reset, so that no port is kept (TIME_WAIT).
				_ = unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			}
			closeAll(conns)
			conns = conns[:0]
			return 0, nil
		}
		for range moving {
			c, err := dialRaw(strings.TrimPrefix(line, "dial "))
			if err != nil {
				return 0, err
			}
			conns = append(conns, c)
			if _, err = unix.Write(c, []byte(get)); err == nil {
				_, err = unix.Read(c, answer)
			}
			if err != nil {
				return 0, err
			}
		}
		return len(conns), nil
	})
}

// benchNext is the process that takes the connections.
func benchNext() {
	s, err := NewServer(&http.Server{Handler: ok, IdleTimeout: time.Minute})
	if err != nil {
		panic(err)
	}
	var began atomic.Int64
	all := make(chan struct{}, 1)
	state := s.http.ConnState
	s.http.ConnState = func(c net.Conn, st http.ConnState) {
		state(c, st)
		if st == http.StateNew && began.Add(1) == moving {
			all <- struct{}{}
		}
	}
	s.Adopt()
	link, err := OpenLink(os.NewFile(3, "link"))
	if err != nil {
		panic(err)
	}
	peer := NewPeer(link, NewReceiver(map[string]*Server{"http": s}, nil), time.Minute)
	go func() { _ = peer.Listen(func(Message) {}) }()
	var used time.Duration
	obey(func(line string) (int, error) {
		switch line {
		case "begin":
			began.Store(0)
			runtime.GC()
			used = cpuTime()
		case "ready":
			<-all
			for s.Counts().Silent < moving {
				time.Sleep(time.Millisecond)
			}
			return int(cpuTime() - used), nil
		}
		return 0, nil
	})
}

// benchTakeRights takes bare descriptors, and acknowledges each batch.
func benchTakeRights(take func(fd int)) {
	link, err := OpenLink(os.NewFile(3, "link"))
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			_, oobn, _, _, err := link.conn.ReadMsgUnix(link.buf[:], link.oob[:])
			if err != nil {
				return
			}
			fds, err := rights(link.oob[:oobn])
			if err != nil {
				panic(err)
			}
			for _, fd := range fds {
				take(fd)
			}
			if _, err := link.conn.Write([]byte{1}); err != nil {
				return
			}
		}
	}()
	var used time.Duration
	obey(func(line string) (int, error) {
		switch line {
		case "begin":
			runtime.GC()
			used = cpuTime()
		case "ready":
			return int(cpuTime() - used), nil
		}
		return 0, nil
	})
}
