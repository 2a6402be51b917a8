package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// Listeners takes the listening sockets that the manager passed to this process,
// by FileDescriptorName=; several under one name keep their order. The caller owns
// them, and closing one leaves a Unix socket's file in place: it is the manager's.
//
// A second call, like a later generation, gets none: $LISTEN_PID, $LISTEN_FDS and
// $LISTEN_FDNAMES are removed, also when they are meant for another process. A
// socket that nothing can be accepted from is an error, and then all are closed.
// Sources: sd_listen_fds(3), systemd.socket(5).
func Listeners() (map[string][]net.Listener, error) {
	files := activation.Files(true) // sets close-on-exec
	forget(envListen...)
	return listen(files)
}

// listen makes listeners of files and closes the files.
func listen(files []*os.File) (map[string][]net.Listener, error) {
	lns := make(map[string][]net.Listener)
	var errs []error
	for _, f := range files {
		ln, err := listenFile(f)
		if err != nil {
			errs = append(errs, fmt.Errorf("systemd: passed socket %q: %w", f.Name(), err))
			continue
		}
		lns[f.Name()] = append(lns[f.Name()], ln)
	}
	if len(errs) == 0 {
		return lns, nil
	}
	for _, named := range lns {
		for _, ln := range named {
			_ = ln.Close()
		}
	}
	return nil, errors.Join(errs...)
}

// listenFile makes a listener of f and closes f.
func listenFile(f *os.File) (net.Listener, error) {
	defer func() { _ = f.Close() }() // net.FileListener duplicates
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var kind, accepts int
	var kindErr, acceptsErr error
	if err := raw.Control(func(fd uintptr) {
		kind, kindErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		accepts, acceptsErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	}); err != nil {
		return nil, err
	}
	switch {
	case kindErr != nil:
		return nil, kindErr
	case acceptsErr != nil:
		return nil, acceptsErr
	case kind != unix.SOCK_STREAM:
		return nil, errors.New("is not a stream socket: use ListenStream= in the socket unit")
	case accepts == 0:
		return nil, errors.New("does not listen: use Accept=no in the socket unit")
	}
	return net.FileListener(f)
}
