package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// manager is the other end of $NOTIFY_SOCKET.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv(envNotifySocket, name)
	return &manager{t, conn}
}

// receive returns the next message and the files that came with it.
func (m *manager) receive() (string, []*os.File, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", nil, err
	}
	b, oob := make([]byte, 8192), make([]byte, 256)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return "", nil, err
	}
	var files []*os.File
	cmsgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return "", nil, err
	}
	for _, cmsg := range cmsgs {
		fds, err := unix.ParseUnixRights(&cmsg)
		if err != nil {
			return "", nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return string(b[:n]), files, nil
}

func (m *manager) message() string {
	m.t.Helper()
	msg, files, err := m.receive()
	require.NoError(m.t, err)
	require.Empty(m.t, files)
	return msg
}

func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // t.TempDir is too long for a socket's name on darwin
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "notify")
}

func TestMessages(t *testing.T) {
	m := newManager(t, socketPath(t))
	n := New()
	for _, tc := range []struct {
		name string
		send func()
		want string
	}{
		{"resumed", func() { n.Resumed("goes on", 42) }, "MAINPID=42\nREADY=1\nSTATUS=goes on"},
		{"stopping", func() { n.Stopping("bye") }, "STOPPING=1\nSTATUS=bye"},
		{"status", func() { n.Status("fine") }, "STATUS=fine"},
		{"extend", func() { n.Extend(1500*time.Millisecond, "") }, "EXTEND_TIMEOUT_USEC=1500000"},
		{"extend, and why", func() { n.Extend(time.Second, "still\nwarming") }, "EXTEND_TIMEOUT_USEC=1000000\nSTATUS=still warming"},
		{"extend by less than nothing", func() { n.Extend(-time.Second, "") }, "EXTEND_TIMEOUT_USEC=0"},
		{"ping", n.Ping, "WATCHDOG=1"},
		{"a text cannot smuggle in a field", func() { n.Status("a\nMAINPID=1\r\x00b") }, "STATUS=a MAINPID=1  b"},
		{"invalid UTF-8", func() { n.Status("a\xffb") }, "STATUS=a\uFFFDb"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.send()
			require.Equal(t, tc.want, m.message())
		})
	}
}

func TestReloading(t *testing.T) {
	m := newManager(t, socketPath(t))
	before := monotonic(t)
	New().Reloading("a new one starts", time.Minute)
	lines := strings.Split(m.message(), "\n")
	require.Len(t, lines, 4)
	require.Equal(t, "RELOADING=1", lines[0])
	var usec int64
	_, err := fmt.Sscanf(lines[1], "MONOTONIC_USEC=%d", &usec)
	require.NoError(t, err)
	require.GreaterOrEqual(t, usec, before)
	require.LessOrEqual(t, usec, monotonic(t))
	require.Equal(t, []string{"EXTEND_TIMEOUT_USEC=60000000", "STATUS=a new one starts"}, lines[2:])
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano() / 1000
}

func TestLongStatusIsCut(t *testing.T) {
	m := newManager(t, socketPath(t))
	// 'é' is two bytes: whatever the offset, the cut must not leave half of one.
	for _, text := range []string{strings.Repeat("é", 5000), "x" + strings.Repeat("é", 5000)} {
		New().Status(text)
		got := m.message()
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), len("STATUS=")+maxStatus)
		require.Greater(t, len(got), maxStatus-8)
		require.True(t, strings.HasSuffix(got, "é…"))
	}
}

// serve reads the two messages of Ready. It passes their texts on, and closes what
// came with the barrier when release is closed.
func (m *manager) serve(release <-chan struct{}) (<-chan []string, func()) {
	texts := make(chan []string, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		var got []string
		var files []*os.File
		for range 2 {
			msg, fs, err := m.receive()
			if err != nil {
				msg = err.Error()
			}
			got, files = append(got, fmt.Sprintf("%s with %d files", msg, len(fs))), append(files, fs...)
		}
		texts <- got
		<-release
		for _, f := range files {
			_ = f.Close()
		}
	})
	return texts, wg.Wait
}

func TestReadyWaitsForTheBarrier(t *testing.T) {
	names := []string{socketPath(t)}
	if runtime.GOOS == "linux" {
		names = append(names, fmt.Sprintf("@holdfast-test-%d", os.Getpid()))
	}
	for _, name := range names {
		t.Run(name[:1], func(t *testing.T) {
			m := newManager(t, name)
			n := New()
			n.watchdog = time.Second
			release := make(chan struct{})
			confirm := sync.OnceFunc(func() { close(release) })
			texts, wait := m.serve(release)
			done := make(chan error, 1)
			var wg sync.WaitGroup
			wg.Go(func() { done <- n.Ready("serving", 4711) })
			defer func() { confirm(); wait(); wg.Wait() }()
			require.Equal(t, []string{
				"MAINPID=4711\nREADY=1\nWATCHDOG=1\nSTATUS=serving with 0 files",
				"BARRIER=1 with 1 files",
			}, <-texts)
			select {
			case err := <-done:
				t.Errorf("returned before the manager confirmed: %v", err)
			default:
				confirm()
				require.NoError(t, <-done)
			}
		})
	}
}

func TestBarrierTimeout(t *testing.T) {
	m := newManager(t, socketPath(t))
	n := New()
	require.Equal(t, DefaultTimeout, n.Timeout)
	n.Timeout = 50 * time.Millisecond
	release := make(chan struct{})
	texts, wait := m.serve(release)
	err := n.Ready("serving", os.Getpid())
	<-texts
	close(release)
	wait()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.ErrorContains(t, err, "within 50ms")
}

// A manager that does not read, because it is frozen for instance, must not freeze
// the service: its queue is full after net.unix.max_dgram_qlen messages.
func TestFullQueueIsNoTrap(t *testing.T) {
	newManager(t, socketPath(t))
	n := New()
	n.Timeout = time.Millisecond
	var err error
	for range 10_000 {
		if err = n.send("STATUS=" + strings.Repeat("x", 1000)); err != nil {
			break
		}
	}
	require.Error(t, err)
	if runtime.GOOS == "linux" { // darwin says ENOBUFS at once
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	// What comes again soon waits even less.
	n.Timeout = time.Minute
	n.Ping()
	n.Status("x")
	n.Extend(time.Second, "x")
}

func TestWithoutManager(t *testing.T) {
	t.Setenv(envNotifySocket, "")
	for _, n := range []*Notifier{New(), {}} {
		n.Reloading("", time.Minute)
		n.Resumed("", 1)
		n.Stopping("")
		n.Status("")
		n.Extend(time.Minute, "")
		n.Ping()
		require.NoError(t, n.Barrier())
		require.NoError(t, n.Ready("", 1))
		_, ok := n.WatchdogTimeout()
		require.False(t, ok)
	}
}

func TestManagerGone(t *testing.T) {
	path := socketPath(t)
	t.Setenv(envNotifySocket, path)
	n := New()
	require.ErrorIs(t, n.Ready("", 1), os.ErrNotExist)
	require.ErrorIs(t, n.Barrier(), os.ErrNotExist)
	n.Ping()
}

func TestNoDescriptorIsLeft(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts in /proc/self/fd")
	}
	m := newManager(t, socketPath(t))
	n := New()
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	before := count()
	for range 20 {
		release := make(chan struct{})
		close(release)
		_, wait := m.serve(release)
		err := n.Ready("serving", 1)
		wait()
		require.NoError(t, err)
	}
	n.Timeout = time.Millisecond
	require.Error(t, errors.Join(n.Barrier()))
	_, files, err := m.receive()
	require.NoError(t, err)
	for _, f := range files {
		require.NoError(t, f.Close())
	}
	require.Equal(t, before, count())
}
