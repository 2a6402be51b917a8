package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection of a worker, which alone uses it.
type conn struct {
	net.Conn // TLS, if there is any
	raw      *pollable
	br       *bufio.Reader

	asked      bool // a request has been sent on it
	pid        int  // who answered last; 0: not known
	generation int
}

// dial connects, with the TLS handshake, by the deadline.
func dial(addr Addr, deadline time.Time) (*conn, error) {
	d := net.Dialer{Deadline: deadline, KeepAlive: -1}
	// Not a context that the end of the run ends: the request it is for is counted.
	nc, err := d.DialContext(context.Background(), addr.Network, addr.Address)
	if err != nil {
		return nil, ioFailure("dial", err, false)
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		_ = nc.Close()
		return nil, fail(Other, "dial: network %q has no descriptors", addr.Network)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		_ = nc.Close()
		return nil, ioFailure("dial", err, false)
	}
	raw := &pollable{Conn: nc, rc: rc}
	c := &conn{Conn: raw, raw: raw}
	if err := c.SetDeadline(deadline); err != nil {
		_ = nc.Close()
		return nil, ioFailure("dial", err, false)
	}
	if addr.TLS != nil {
		cfg := addr.TLS.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
			cfg.ServerName, _, _ = net.SplitHostPort(addr.Address)
		}
		tc := tls.Client(raw, cfg)
		if err := tc.HandshakeContext(context.Background()); err != nil {
			_ = nc.Close()
			return nil, ioFailure("TLS handshake", err, false)
		}
		c.Conn = tc
	}
	c.br = bufio.NewReaderSize(c.Conn, 16<<10)
	return c, nil
}

// errSpoke: there is something to read on a connection where nothing was asked.
var errSpoke = errors.New("load: the server sent something unasked")

// rest watches an idle connection for d, which may be 0, or until ctx ends, and then
// looks once more without waiting. It returns nil if the connection is open and
// silent, errSpoke, or the error that a read would have met, io.EOF above all. When
// ctx has ended the connection is good for nothing but being closed.
func (c *conn) rest(ctx context.Context, d time.Duration) error {
	if d > 0 {
		if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
		_, err := c.br.Peek(1)
		stop()
		switch {
		case err == nil:
			return errSpoke
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	// Through bufio and TLS, so that bytes which lie there are found, and a TLS
	// session ticket is not taken for an answer.
	c.raw.now = true
	_, err := c.br.Peek(1)
	c.raw.now = false
	switch {
	case err == nil:
		return errSpoke
	case errors.Is(err, errWouldBlock):
		return nil
	}
	return err
}

// pollable is a connection whose Read can be told not to wait.
type pollable struct {
	net.Conn
	rc  syscall.RawConn
	now bool // Read returns errWouldBlock rather than wait
}

func (p *pollable) Read(b []byte) (int, error) {
	if !p.now || len(b) == 0 {
		return p.Conn.Read(b)
	}
	var n int
	var err error
	rawErr := p.rc.Read(func(fd uintptr) bool {
		for {
			// The descriptor is non-blocking: net made it so.
			if n, err = unix.Read(int(fd), b); !errors.Is(err, unix.EINTR) {
				return true
			}
		}
	})
	switch {
	case rawErr != nil:
		return 0, rawErr
	case errors.Is(err, unix.EAGAIN):
		return 0, errWouldBlock
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

var errWouldBlock net.Error = wouldBlock{}

// wouldBlock is temporary in the sense of net.Error, or crypto/tls would take the
// connection for broken after it.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "load: nothing to read now" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }
