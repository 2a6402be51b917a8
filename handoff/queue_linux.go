package handoff

import (
	"errors"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// acceptNow takes one connection from the accept queue without waiting. It
// returns nil, nil when the queue is empty. The caller owns the connection.
func acceptNow(ln syscall.Conn) (net.Conn, error) {
	rc, err := ln.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var aerr error
	// Control, not Read: the listener's deadline has passed, and must stay so.
	err = rc.Control(func(lfd uintptr) {
		for {
			fd, _, aerr = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			// ECONNABORTED: that client has given up; the next one has not (accept(2)).
			if aerr != unix.EINTR && aerr != unix.ECONNABORTED {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if errors.Is(aerr, unix.EAGAIN) {
		return nil, nil
	}
	if aerr != nil {
		return nil, os.NewSyscallError("accept4", aerr)
	}
	f := os.NewFile(uintptr(fd), "swept")
	defer func() { _ = f.Close() }() // net.FileConn has a duplicate
	return net.FileConn(f)
}

// unreadBytes tells whether the receive queue holds bytes that nobody has read
// (or the end of the stream, which reading will show).
func unreadBytes(c syscall.Conn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	found := false
	_ = rc.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		found = err == nil && n > 0
	})
	return found
}
