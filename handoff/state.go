package handoff

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// MaxState is the largest blob, 64 MiB. While a blob travels it exists three
// times, in the heap of the old process, in the kernel and in the heap of the new
// one, and all three count against the memory limit of the one service: 192 MiB.
// What is larger belongs into a store that outlives a process.
const MaxState = 64 << 20

const (
	maxStateName = 128
	ownPrefix    = "holdfast/" // names of states that this module registers itself
)

// State is a named blob that one generation of a service passes to the next: a
// counter, a cache, the buckets of a rate limiter. All of it stays on the machine,
// in memory. It travels in upgrades only: a first start and a crash begin without it,
// as does an upgrade whose generations have no link that moves things.
//
// The functions are called one after the other, beside the handlers in the old
// process, and need the locks that a handler needs. The upgrade waits for them, so
// they should be quick. An error, and a panic is one, costs this blob and nothing
// else: it is reported and the upgrade goes on.
type State struct {
	// Name identifies the blob in both generations: 1 to 128 bytes of printable
	// UTF-8, unique, and not below "holdfast/".
	Name string
	// Version of the format that Save writes and Load reads, from 1.
	Version int

	// Save is called in the old process, which still serves, when the new one asks
	// before its warm-up: at each attempt to upgrade, also at those that then fail.
	// At most MaxState bytes.
	Save func() ([]byte, error)
	// Load is called in the new process before its warm-up, with what Save gave; not
	// at all when nothing came. It owns the bytes. On an error it should leave what
	// a first start would find.
	Load func([]byte) error

	// Migrate makes of what another version saved, which may be an older one or,
	// after a step back, a newer one, what Load of this version reads. It may be nil:
	// then a blob of another version is not used, and reported. What Rest gave goes
	// through it too.
	Migrate func(version int, b []byte) ([]byte, error)

	// Rest and Add make exact what must be: the old process serves on after Save.
	// Rest is called in it when it has drained, and gives what came since the last
	// Save; nil is nothing. Add puts that on top of what the new process has by
	// then. A process that is killed, or cut off by a crash of the new one, gives
	// no rest. Both or neither; a State may have these two alone.
	Rest func() ([]byte, error)
	Add  func([]byte) error

	own bool // may use ownPrefix
}

func (st State) check() error {
	switch {
	case st.Name == "" || len(st.Name) > maxStateName:
		return fmt.Errorf("handoff: a state's name has 1 to %d bytes, this has %d: %.16q", maxStateName, len(st.Name), st.Name)
	case !utf8.ValidString(st.Name) || strings.ContainsFunc(st.Name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("handoff: state %q: a name is printable UTF-8", st.Name)
	case strings.HasPrefix(st.Name, ownPrefix) != st.own:
		return fmt.Errorf("handoff: state %q: names below %q are reserved: choose another", st.Name, ownPrefix)
	case st.Version < 1:
		return fmt.Errorf("handoff: state %q: version %d: the first version is 1", st.Name, st.Version)
	case (st.Save == nil) != (st.Load == nil) || (st.Rest == nil) != (st.Add == nil):
		return fmt.Errorf("handoff: state %q: Save goes with Load, and Rest with Add", st.Name)
	case st.Save == nil && st.Rest == nil:
		return fmt.Errorf("handoff: state %q: neither Save with Load nor Rest with Add", st.Name)
	}
	return nil
}

// States are the blobs of one process. The zero value is empty and ready. Its
// methods may be called from several goroutines; Send and Receive call the
// functions of the states one after the other.
type States struct {
	mu     sync.Mutex // guards what follows
	states []State    // in the order in which they were registered
	got    map[blob]struct{}
}

// blob is one of those that a process may receive, each once.
type blob struct {
	name  string
	final bool
}

// Register adds a state. The error says what is wrong with it, or that the name is
// taken.
func (s *States) Register(st State) error {
	if err := st.check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.states, func(o State) bool { return o.Name == st.Name }) {
		return fmt.Errorf("handoff: state %q: registered twice", st.Name)
	}
	s.states = append(s.states, st)
	return nil
}
