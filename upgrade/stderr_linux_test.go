package upgrade

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stderrChild makes the test binary the new process: it says 200 lines, commits, and
// says one more.
const stderrChild = "HOLDFAST_TEST_STDERR_CHILD"

func init() {
	if os.Getenv(stderrChild) == "" {
		return
	}
	CaptureStderr()
	for i := range 200 {
		_, _ = fmt.Fprintln(os.Stderr, "before", i)
	}
	_, _ = fmt.Fprint(os.Stderr, "half a ")
	_, _ = fmt.Fprint(os.Stderr, "line\n")
	if ready := os.NewFile(4, "ready"); ready != nil {
		_, _ = ready.Write([]byte{1})
		_, _ = ready.Read(make([]byte, 1)) // the word to go on, or the parent's end
	}
	if os.Getenv(stderrChild) == "orphan" {
		_, _ = fmt.Fprintln(os.Stderr, "alone") // would be SIGPIPE
	}
	restoreStderr(os.Getenv(stderrChild) == "orphan")
	_, _ = fmt.Fprintln(os.Stderr, "after")
	os.Exit(0)
}

// startStderrChild starts it; ready is its pipe to the test.
func startStderrChild(t *testing.T, mode string, inherit *os.File, id string) (cmd *exec.Cmd, own *bytes.Buffer, ready *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	theirs, ours := os.NewFile(uintptr(fds[0]), "ready"), os.NewFile(uintptr(fds[1]), "ready")
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stderrChild+"="+mode, stderrEnv+"="+id)
	cmd.ExtraFiles = []*os.File{inherit, theirs}
	own = &bytes.Buffer{}
	cmd.Stderr = own
	require.NoError(t, cmd.Start())
	require.NoError(t, theirs.Close())
	t.Cleanup(func() { _ = ours.Close() })
	return cmd, own, ours
}

func wantLines(t *testing.T, text string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	require.Len(t, lines, 201)
	for i := range 200 {
		require.Equal(t, "before "+strconv.Itoa(i), lines[i])
	}
	require.Equal(t, "half a line", lines[200])
}

func TestStderrIsQuotedAndCopied(t *testing.T) {
	from, inherit, id, err := stderrPipe()
	require.NoError(t, err)
	var copied bytes.Buffer
	c := &capture{from: from, to: &copied, done: make(chan struct{})}
	go c.run()
	cmd, own, ready := startStderrChild(t, "1", inherit, id)
	require.NoError(t, inherit.Close())
	_, err = ready.Read(make([]byte, 1))
	require.NoError(t, err)
	_, err = ready.Write([]byte{1})
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	lines := c.finish()
	require.Equal(t, lines, c.finish(), "again")
	require.Len(t, lines, keptLines)
	require.Equal(t, "half a line", lines[keptLines-1])
	require.Equal(t, "before 181", lines[0])
	wantLines(t, copied.String())
	require.Equal(t, "after\n", own.String(), "from the commit on it writes itself")
}

// The old process dies before the commit: no SIGPIPE, and not a line is lost.
func TestStderrOfAnOrphan(t *testing.T) {
	from, inherit, id, err := stderrPipe()
	require.NoError(t, err)
	cmd, own, ready := startStderrChild(t, "orphan", inherit, id)
	require.NoError(t, inherit.Close())
	_, err = ready.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, from.Close())
	require.NoError(t, ready.Close())
	require.NoError(t, cmd.Wait())
	text, rest, found := strings.Cut(own.String(), "alone\nafter\n")
	require.True(t, found)
	require.Empty(t, rest)
	wantLines(t, text)
}

func TestStderrOfSomebodyElse(t *testing.T) {
	_, ok := findPipe("")
	require.False(t, ok)
	_, ok = findPipe("0:0")
	require.False(t, ok)
	var fds [2]int
	require.NoError(t, syscall.Pipe(fds[:]))
	defer func() { _, _ = syscall.Close(fds[0]), syscall.Close(fds[1]) }()
	id, err := pipeID(fds[1])
	require.NoError(t, err)
	_, ok = findPipe(id)
	require.True(t, ok)
	f, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	_, err = pipeID(int(f.Fd()))
	require.Error(t, err, "no pipe")
}

func TestLongAndBrokenLines(t *testing.T) {
	var out bytes.Buffer
	c := &capture{to: &out}
	c.take([]byte(strings.Repeat("x", keptBytes+1) + "\n\xff\r\nend"))
	c.take(bytes.Repeat([]byte("y"), wholeLine)) // without an end: not held back for ever
	require.Equal(t, strings.Repeat("x", keptBytes)+"…", c.lines[0])
	require.Equal(t, "\uFFFD", c.lines[1])
	require.Len(t, c.lines, 3)
	require.Empty(t, c.partial)
	require.Nil(t, (*capture)(nil).finish())
}
