package handoff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// BindOptions says how new listening sockets are made. It does not touch
// inherited ones.
type BindOptions struct {
	// UnixMode is the permission of a Unix socket's file, for example 0660. Zero
	// leaves what the umask gives.
	UnixMode fs.FileMode
	// ReusePort sets SO_REUSEPORT (socket(7)) so that another, unrelated server of
	// the same user may listen on the same port: to move a port from one service to
	// another, say. Generations do not need it, they inherit the socket. Prefer
	// inheritance: with SO_REUSEPORT each server has an accept queue of its own, the
	// kernel spreads new connections over all of them, and those that wait in the
	// queue of a server that closes its socket are reset. One inherited socket has
	// one queue, which outlives each process that accepts from it.
	ReusePort bool
	// KeepFiles leaves the files of Unix sockets in place at the end of the service,
	// because somebody else holds the sockets for the next one.
	KeepFiles bool
}

// bind makes a new listening socket. The caller owns it.
func bind(a Address, o BindOptions) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, rc syscall.RawConn) error {
		var err error
		cerr := rc.Control(func(fd uintptr) {
			if network == "unix" {
				err = limitSocketMode(fd, o.UnixMode)
			} else if o.ReusePort {
				err = setReusePort(fd)
			}
		})
		return errors.Join(cerr, err)
	}}
	if a.Network == "unix" {
		if err := clearStaleSocket(a); err != nil {
			return nil, err
		}
	}
	ln, err := lc.Listen(context.Background(), a.Network, a.Addr)
	if err != nil {
		return nil, explainBind(a, err)
	}
	if ul, ok := ln.(*net.UnixListener); ok {
		// The file belongs to the chain of processes, not to this one.
		ul.SetUnlinkOnClose(false)
		if o.UnixMode != 0 && a.Addr[0] != '@' {
			if err := os.Chmod(a.Addr, o.UnixMode); err != nil {
				return nil, errors.Join(fmt.Errorf("listen on %s: %w", a, err), ln.Close(), os.Remove(a.Addr))
			}
		}
	}
	return ln, nil
}

// staleProbe bounds the connect that tells a dead server's socket from a live
// one's. Connecting to a Unix socket is answered by the kernel at once; only a
// full accept queue blocks, and then the server is alive.
const staleProbe = time.Second

// clearStaleSocket removes the file of a server that is gone. A live server's
// socket and any other kind of file are left alone and are an error.
func clearStaleSocket(a Address) error {
	if a.Addr[0] == '@' {
		return nil
	}
	fi, err := os.Lstat(a.Addr)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explainBind(a, err)
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen on %s: the file exists and is not a socket: remove it or choose another path", a)
	}
	c, err := net.DialTimeout("unix", a.Addr, staleProbe)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: a live server listens there: stop it or choose another path", a)
	}
	if err := os.Remove(a.Addr); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on %s: remove the socket of a dead server: %w", a, err)
	}
	return nil
}

// explainBind turns the kernel's word into what a person can do about it.
func explainBind(a Address, err error) error {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return inUseError{a}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("listen on %s: this machine has no such address (ip addr lists them)", a)
	case errors.Is(err, fs.ErrPermission) && a.Network == "tcp":
		return fmt.Errorf("listen on %s: not permitted: a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit) or a socket unit", a)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("listen on %s: not permitted: the directory must be writable for this user", a)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("listen on %s: the directory does not exist: create it (RuntimeDirectory= in the unit)", a)
	case errors.As(err, &dns):
		return fmt.Errorf("listen on %s: the host %q has no address: %s", a, dns.Name, dns.Err)
	}
	return fmt.Errorf("listen on %s: %w", a, err)
}

// inUseError says that somebody listens on the address already.
type inUseError struct{ address Address }

func (e inUseError) Error() string {
	return fmt.Sprintf("listen on %s: the address is in use by another process: stop it (ss -ltnp shows it) or choose another", e.address)
}

func (e inUseError) Unwrap() error { return syscall.EADDRINUSE }
