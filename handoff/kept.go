package handoff

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
)

// kept is a listening socket of an earlier run of the service, which somebody has held
// open since.
type kept struct {
	address Address
	ln      net.Listener
	drop    func(Address)
}

// keptNetwork keys Unix sockets in the [Inheritance] whose files outlive the service,
// so that nobody removes them at its end.
const keptNetwork = "kept"

// Keep gives the set a socket that an earlier run of the service had bound for address,
// and that has been held open since, with what waits in its queue. [Set.Listen] takes
// it, under whatever name, instead of binding the same address. The set owns ln.
//
// One that is not asked for is closed, and drop called with its address, so that
// whoever holds it lets go: when it is in the way of another address, or by
// [Set.DropKept]. So is a Unix socket without its file, which nobody can reach.
func (s *Set) Keep(address Address, ln net.Listener, drop func(Address)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, &kept{address, ln, drop})
}

// DropKept closes what has been kept and nobody asked for.
func (s *Set) DropKept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropKept(func(*kept) bool { return true })
}

// takeKept finds the socket for a. The caller holds mu.
func (s *Set) takeKept(a Address) net.Listener {
	s.dropKept(func(k *kept) bool {
		return k.address.Network == a.Network && k.address.Addr == a.Addr && !k.reachable()
	})
	i := slices.IndexFunc(s.kept, func(k *kept) bool { return k.address.Network == a.Network && k.address.Addr == a.Addr })
	if i < 0 {
		return nil
	}
	k := s.kept[i]
	s.kept = slices.Delete(s.kept, i, i+1)
	if k.address != a {
		k.drop(k.address) // held under a name that is not its own any more
	}
	return k.ln
}

// bindBeside binds a. What has been kept makes way for it. The caller holds mu.
func (s *Set) bindBeside(a Address) (net.Listener, error) {
	ln, err := bind(a, s.options)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	port := portOf(a.Addr)
	n := len(s.kept)
	s.dropKept(func(k *kept) bool {
		return a.Network == "tcp" && k.address.Network == "tcp" && portOf(k.address.Addr) == port
	})
	if len(s.kept) == n {
		return nil, err
	}
	return bind(a, s.options)
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// dropKept closes what is not wanted. The caller holds mu.
func (s *Set) dropKept(unwanted func(*kept) bool) {
	s.kept = slices.DeleteFunc(s.kept, func(k *kept) bool {
		if !unwanted(k) {
			return false
		}
		_ = k.ln.Close()
		k.drop(k.address)
		return true
	})
}

// reachable tells whether clients can find the socket.
func (k *kept) reachable() bool {
	if k.address.Network != "unix" || k.address.Addr[0] == '@' {
		return true
	}
	fi, err := os.Lstat(k.address.Addr)
	return err == nil && fi.Mode()&os.ModeSocket != 0
}
