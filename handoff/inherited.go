package handoff

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// text is an address as net.Addr.String gives it, in a third of the time for TCP.
func text(a net.Addr) string {
	if a, ok := a.(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	}
	return a.String()
}

// address reads what text wrote. What does not parse is still an
// address to show.
func address(network, s string) net.Addr {
	if network == "unix" {
		return &net.UnixAddr{Net: network, Name: s}
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return net.TCPAddrFromAddrPort(ap)
	}
	return textAddr{network, s}
}

type textAddr struct{ network, text string }

func (a textAddr) Network() string { return a.network }
func (a textAddr) String() string  { return a.text }

// inherited is a connected socket whose descriptor came from another process.
//
// It is built on an os.File rather than by net.FileConn, which costs some fifteen
// system calls for each connection (a duplicate, its type, its addresses, and TCP
// options that it resets to Go's defaults) where this needs three. The options that
// the first process had set are the socket's, and stay.
type inherited struct {
	file          *os.File
	local, remote net.Addr
	// net/http ends a read with a deadline in each request: that error is made once.
	timeout *net.OpError
}

// newInherited takes over fd, a non-blocking socket. On an error it does not.
func newInherited(fd int, local, remote net.Addr) (*inherited, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		// Or os.NewFile would not use the poller, and deadlines would not work.
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	s := &inherited{file: os.NewFile(uintptr(fd), "connection"), local: local, remote: remote}
	s.timeout = &net.OpError{Op: "read", Net: local.Network(), Source: local, Addr: remote, Err: os.ErrDeadlineExceeded}
	return s, nil
}

func (s *inherited) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	if pe, ok := err.(*fs.PathError); ok && pe.Err == os.ErrDeadlineExceeded { //nolint:errorlint // os.File's own
		return n, s.timeout
	}
	return n, s.explain("read", err)
}

func (s *inherited) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	return n, s.explain("write", err)
}

// ReadFrom uses sendfile(2) where it can.
func (s *inherited) ReadFrom(r io.Reader) (int64, error) {
	if n, handled, err := sendFile(s.file, r); handled {
		return n, s.explain("sendfile", err)
	}
	return io.Copy(struct{ io.Writer }{s}, r)
}

func (s *inherited) Close() error                  { return s.explain("close", s.file.Close()) }
func (s *inherited) LocalAddr() net.Addr           { return s.local }
func (s *inherited) RemoteAddr() net.Addr          { return s.remote }
func (s *inherited) SetDeadline(t time.Time) error { return s.explain("set", s.file.SetDeadline(t)) }

func (s *inherited) SetReadDeadline(t time.Time) error {
	return s.explain("set", s.file.SetReadDeadline(t))
}

func (s *inherited) SetWriteDeadline(t time.Time) error {
	return s.explain("set", s.file.SetWriteDeadline(t))
}

func (s *inherited) SyscallConn() (syscall.RawConn, error) {
	rc, err := s.file.SyscallConn()
	return rc, s.explain("raw-control", err)
}

// CloseWrite ends the sending half.
func (s *inherited) CloseWrite() error {
	rc, err := s.file.SyscallConn()
	if err != nil {
		return s.explain("close", err)
	}
	var serr error
	err = rc.Control(func(fd uintptr) { serr = unix.Shutdown(int(fd), unix.SHUT_WR) })
	if err == nil {
		err = serr
	}
	return s.explain("close", err)
}

// explain gives an error the form that those of package net have, which net/http
// looks for.
func (s *inherited) explain(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // never wrapped
		return err
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: s.local.Network(), Source: s.local, Addr: s.remote, Err: err}
}
