package handoff

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// guard lets a connection that waits at a message boundary move without its owner
// being woken first: each attempt to read is made under the connection's lock, and
// none once a sender has the descriptor. So whoever holds the lock and finds the
// connection parked knows that nothing has been read, and can keep it that way.
//
// It takes the same system calls as a Read, and after the first one allocates
// nothing.
type guard struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // guarded, made once
	buf []byte
	n   int
	err error
}

// read reads from the socket, or returns 0 and no error when it found the
// connection in transit. The error is for [Conn.readError].
func (c *Conn) read(p []byte) (int, error) {
	g := &c.guard
	if g.raw == nil {
		raw, err := c.SyscallConn()
		if err != nil {
			return 0, err
		}
		g.raw, g.try = raw, c.attempt
	}
	g.buf, g.n, g.err = p, 0, nil
	err := g.raw.Read(g.try)
	g.buf = nil
	if err != nil {
		return 0, err
	}
	return g.n, g.err
}

// attempt reads without waiting; it returns false if there is nothing to read.
func (c *Conn) attempt(fd uintptr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken() {
		return true
	}
	g := &c.guard
	for {
		n, err := unix.Read(int(fd), g.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			g.err = os.NewSyscallError("read", err)
		case n == 0:
			g.err = io.EOF
		}
		g.n = max(n, 0)
		c.parked = false
		return true
	}
}

// taken tells that the descriptor is a sender's, or another process's: no byte may
// be read, nor given out. The caller holds mu.
func (c *Conn) taken() bool { return c.transit || c.moved }

// readError gives an error the form that those of a Read have, which net/http looks
// for.
func (c *Conn) readError(err error) error {
	if err == io.EOF { //nolint:errorlint // our own
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var errno unix.Errno
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.As(err, &errno) {
		err = net.ErrClosed // there is no other reason not to wait
	}
	e := &net.OpError{Op: "read", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
	if e.Source != nil {
		e.Net = e.Source.Network()
	}
	return e
}

// undecided waits until the connection is not in transit any more. The caller
// holds mu, as it does again afterwards.
func (c *Conn) undecided() {
	for c.transit {
		if c.verdict == nil {
			c.verdict = make(chan struct{})
		}
		verdict := c.verdict
		c.mu.Unlock()
		<-verdict
		c.mu.Lock()
	}
}
