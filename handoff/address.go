package handoff

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Address says where a listener listens.
type Address struct {
	// Name identifies the listener in logs and among the sockets that a service
	// manager passes, for example "http".
	Name string
	// Network is "tcp" or "unix".
	Network string
	// Addr is "host:port" for tcp, with an empty host for every address of both
	// families, or the path of the socket for unix; "@name" is an abstract socket
	// (unix(7), Linux only).
	Addr string
}

// String gives the address in the form that [ParseAddress] reads.
func (a Address) String() string {
	s := a.Addr
	if a.Network == "unix" {
		s = "unix:" + a.Addr
	}
	if a.Name != "" {
		s = a.Name + "=" + s
	}
	return s
}

// ParseAddress reads "[NAME=]HOST:PORT" or "[NAME=]unix:PATH". A port may be a
// number from 0 (the kernel chooses) to 65535 or a service's name from
// /etc/services. It binds nothing and touches no file.
func ParseAddress(s string) (Address, error) {
	var a Address
	rest := s
	// A name ends at the first "=", unless that belongs to a path.
	if name, after, ok := strings.Cut(s, "="); ok && !strings.ContainsAny(name, ":/@") {
		if name == "" {
			return a, fmt.Errorf("address %q: the name before = is empty", s)
		}
		a.Name, rest = name, after
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		a.Network, a.Addr = "unix", path
		return a, checkUnixPath(s, path)
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return a, fmt.Errorf("address %q: want HOST:PORT, :PORT, [IPv6]:PORT or unix:PATH", s)
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		if _, e := strconv.Atoi(port); e == nil {
			return a, fmt.Errorf("address %q: port %s is outside 0..65535", s, port)
		}
		return a, fmt.Errorf("address %q: unknown port %q, want a number from 0 to 65535", s, port)
	}
	a.Network, a.Addr = "tcp", net.JoinHostPort(host, port)
	return a, nil
}

// maxUnixPath is the room for a path in sockaddr_un, less the final NUL:
// 108 bytes on Linux (unix(7)), 104 on the BSDs and darwin.
func maxUnixPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

func checkUnixPath(s, path string) error {
	switch {
	case path == "" || path == "@":
		return fmt.Errorf("address %q: the path after unix: is empty", s)
	case len(path) > maxUnixPath():
		return fmt.Errorf("address %q: a socket's path has at most %d bytes, this has %d: use a shorter one, for example below /run",
			s, maxUnixPath(), len(path))
	case path[0] == '@' && runtime.GOOS != "linux":
		return fmt.Errorf("address %q: abstract sockets exist only on Linux: use a path", s)
	case path[0] != '@' && !filepath.IsAbs(path):
		return fmt.Errorf("address %q: the path must be absolute, for the next process may start in another directory", s)
	}
	return nil
}

// Resolve finds out whether the address could be bound as far as that can be
// seen without binding it: the host has an address, the directory of a socket
// exists.
func (a Address) Resolve() error {
	if a.Network == "unix" {
		if a.Addr[0] == '@' {
			return nil
		}
		if fi, err := os.Stat(filepath.Dir(a.Addr)); err != nil || !fi.IsDir() {
			return fmt.Errorf("address %s: the directory %s does not exist", a, filepath.Dir(a.Addr))
		}
		return nil
	}
	if _, err := net.ResolveTCPAddr("tcp", a.Addr); err != nil {
		return fmt.Errorf("address %s: %w", a, err)
	}
	return nil
}
