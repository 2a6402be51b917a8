package upgrade

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// The standard error of a new process goes through its parent until the commit, so
// that the parent can quote the end of it. This is the parent's half.
//
// The pipe is open for reading and writing in the new process, which therefore
// cannot lose its reader: a parent that dies costs it neither a signal (SIGPIPE) nor
// what it has written, for then it reads the rest itself.

const (
	// stderrFile is the pipe among the files that the new process inherits. One that
	// does not know it closes it unread.
	stderrFile = "holdfast-stderr"
	// stderrEnv names the pipe: its device and inode (pipe(7)).
	stderrEnv = "HOLDFAST_STDERR"
	// keptLines and keptBytes bound what is quoted.
	keptLines = 20
	keptBytes = 500
	// wholeLine is how much of a line is held back until its end, so that lines of two
	// processes do not mix.
	wholeLine = 16 << 10
)

// capture reads what the new process writes, copies it, and keeps its end.
type capture struct {
	from *os.File
	to   io.Writer
	once sync.Once
	done chan struct{} // closed when everything has been copied

	// The reading goroutine's own until done is closed.
	partial []byte
	lines   []string
}

// run copies until finish.
func (c *capture) run() {
	defer close(c.done)
	defer func() { _ = c.from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.from.Read(buf)
		c.take(buf[:n])
		if err != nil {
			break
		}
	}
	for { // what is still in the pipe
		n, err := readNow(c.from, buf)
		if n <= 0 || err != nil {
			break
		}
		c.take(buf[:n])
	}
	if len(c.partial) > 0 {
		c.line(c.partial)
		_, _ = c.to.Write(append(c.partial, '\n'))
	}
}

// take copies whole lines.
func (c *capture) take(b []byte) {
	c.partial = append(c.partial, b...)
	end := bytes.LastIndexByte(c.partial, '\n') + 1
	if end == 0 && len(c.partial) > wholeLine {
		end = len(c.partial)
	}
	if end == 0 {
		return
	}
	// An error of our own standard error is nobody's to hear.
	_, _ = c.to.Write(c.partial[:end])
	for l := range bytes.Lines(c.partial[:end]) {
		c.line(l)
	}
	c.partial = append(c.partial[:0], c.partial[end:]...)
}

func (c *capture) line(b []byte) {
	b = bytes.TrimRight(b, "\r\n")
	s := strings.ToValidUTF8(string(b[:min(len(b), keptBytes)]), "\uFFFD")
	if len(b) > keptBytes {
		s += "…"
	}
	if len(c.lines) == keptLines {
		c.lines = append(c.lines[:0], c.lines[1:]...)
	}
	c.lines = append(c.lines, s)
}

// finish copies what is in the pipe and returns the last lines. It is called when the
// new process has put its own standard error back, or has ended. A nil capture has
// none.
func (c *capture) finish() []string {
	if c == nil {
		return nil
	}
	c.once.Do(func() { _ = c.from.SetReadDeadline(time.Unix(1, 0)) })
	<-c.done
	return c.lines
}

// captureStderr makes the pipe for the new process of an attempt. Without one the
// upgrade goes on.
func (l *loop) captureStderr(a *attempt) {
	_ = os.Unsetenv(stderrEnv) // whatever is passed on from an earlier attempt is void
	from, inherit, id, err := stderrPipe()
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			l.log.Warn().Err(err).Msg("what the new process says on its standard error will not be quoted")
		}
		return
	}
	defer func() { _ = inherit.Close() }() // tableflip has a duplicate
	// The same key each time: tableflip cannot remove a file, but replace it.
	if err = l.tableflip.AddFile(stderrFile, inherit); err == nil {
		err = os.Setenv(stderrEnv, id)
	}
	if err != nil {
		_ = from.Close()
		l.log.Warn().Err(err).Msg("what the new process says on its standard error will not be quoted")
		return
	}
	a.stderr = &capture{from: from, to: os.Stderr, done: make(chan struct{})}
	l.listeners.Go(a.stderr.run)
}
