package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sort"
	"strconv"
	"sync"
)

// Inheritance is where listening sockets come from and go to: it returns the one
// that the parent process passed under network and addr, or calls make, and
// passes the result on to the next process. The library that starts the processes
// implements it; this package does not know which.
type Inheritance interface {
	Listener(network, addr string) (net.Listener, error)
	ListenWithCallback(network, addr string, make func(network, addr string) (net.Listener, error)) (net.Listener, error)
}

// Set is the listener set of one process: every listening socket, with a name.
// A socket is looked for in this order: inherited from the previous generation,
// passed by the service manager under the listener's name, kept from an earlier run
// ([Set.Keep]), made anew.
//
// Listeners may differ between generations. One that the new generation does not
// ask for is closed by the [Inheritance] once it is ready; one that the old
// generation did not have is bound.
type Set struct {
	from    Inheritance
	options BindOptions

	mu        sync.Mutex
	passed    map[string][]net.Listener // by name, from the service manager, not asked for yet
	kept      []*kept                   // of an earlier run, not asked for yet
	listeners []*Listener
	created   []string // files of Unix sockets that this process bound
}

// NewSet returns an empty set. It owns the listeners in passed; those that no
// [Set.Listen] asks for are closed by [Set.CloseUnclaimed].
func NewSet(from Inheritance, passed map[string][]net.Listener, o BindOptions) *Set {
	if passed == nil {
		passed = map[string][]net.Listener{}
	}
	return &Set{from: from, options: o, passed: passed}
}

// passedNetwork keys sockets of the service manager in the [Inheritance]. They
// are not keyed "unix", so that nobody removes a file that the manager owns.
const passedNetwork = "passed"

// Listen returns the listeners under a.Name: one, or as many as the service
// manager passes under that name. The set owns them; [Set.Close] closes them.
func (s *Set) Listen(a Address) ([]*Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		if l.address == a {
			return nil, fmt.Errorf("listen on %s: listed twice", a)
		}
	}
	found, err := s.listenPassed(a)
	if err == nil && len(found) == 0 {
		found, err = s.listenOwn(a)
	}
	if err != nil {
		return nil, err
	}
	s.listeners = append(s.listeners, found...)
	return found, nil
}

// listenPassed finds the sockets that a service manager passed to this process,
// or to the first of its line.
func (s *Set) listenPassed(a Address) ([]*Listener, error) {
	var found []*Listener
	for i := 0; ; i++ {
		key := a.Name
		if i > 0 {
			key += "#" + strconv.Itoa(i)
		}
		inherited, err := s.from.Listener(passedNetwork, key)
		if err != nil {
			return nil, fmt.Errorf("inherit %s: %w", a, err)
		}
		if inherited != nil {
			found = append(found, newListener(a, inherited, true))
			continue
		}
		if i >= len(s.passed[a.Name]) {
			break
		}
		own := s.passed[a.Name][i]
		ln, err := s.from.ListenWithCallback(passedNetwork, key, func(string, string) (net.Listener, error) { return own, nil })
		if err != nil {
			return nil, fmt.Errorf("take %s from the service manager: %w", a, err)
		}
		found = append(found, newListener(a, ln, true))
	}
	delete(s.passed, a.Name)
	return found, nil
}

func (s *Set) listenOwn(a Address) ([]*Listener, error) {
	var bindErr error
	network := a.Network
	if a.Network == "unix" && s.options.KeepFiles {
		network = keptNetwork
	}
	ln, err := s.from.ListenWithCallback(network, a.Addr, func(string, string) (net.Listener, error) {
		if ln := s.takeKept(a); ln != nil {
			return ln, nil
		}
		ln, err := s.bindBeside(a)
		if err != nil {
			bindErr = err
			return nil, err
		}
		if a.Network == "unix" && a.Addr[0] != '@' {
			s.created = append(s.created, a.Addr)
		}
		return ln, nil
	})
	if bindErr != nil {
		return nil, bindErr // already says which address
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", a, err)
	}
	if ul, ok := ln.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false) // as net.FileListener leaves it to chance
	}
	return []*Listener{newListener(a, ln, false)}, nil
}

// Listeners returns all listeners of the set, in the order they were asked for.
func (s *Set) Listeners() []*Listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Listener(nil), s.listeners...)
}

// CloseUnclaimed closes the sockets that the service manager passed and nobody
// asked for, and returns their names.
func (s *Set) CloseUnclaimed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, lns := range s.passed {
		names = append(names, name)
		for _, ln := range lns {
			_ = ln.Close()
		}
	}
	s.passed = map[string][]net.Listener{}
	sort.Strings(names)
	return names
}

// Close closes this process's descriptors of all listeners, and of what has been kept.
// Those of other processes stay open.
func (s *Set) Close() error {
	s.mu.Lock()
	for _, k := range s.kept {
		_ = k.ln.Close()
	}
	s.kept = nil
	s.mu.Unlock()
	var errs []error
	for _, l := range s.Listeners() {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close %s: %w", l.address, err))
		}
	}
	return errors.Join(errs...)
}

// RemoveCreated removes the files of Unix sockets that this process bound. It is
// for a generation that gives up before it has served: nobody else knows them.
func (s *Set) RemoveCreated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.created {
		_ = os.Remove(path)
	}
	s.created = nil
}
