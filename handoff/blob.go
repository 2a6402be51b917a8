package handoff

import (
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"slices"

	"golang.org/x/sys/unix"
)

// Send sends a StateBlob for each state that has something to send. If final is
// false, that is what Save gives, and a StateEnd follows; otherwise it is what Rest
// gives, and nothing follows. An error of one state does not keep the others; an
// error of the link ends it.
func (s *States) Send(l *Link, final bool) []error {
	s.mu.Lock()
	states := slices.Clone(s.states)
	s.mu.Unlock()

	var errs []error
	for _, st := range states {
		save, verb := st.Save, "save"
		if final {
			save, verb = st.Rest, "rest"
		}
		if save == nil {
			continue
		}
		b, err := contained(save)
		if err == nil && len(b) > MaxState {
			err = fmt.Errorf("%d bytes, at most %d can travel", len(b), MaxState)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("handoff: state %q: %s: %w", st.Name, verb, err))
			continue
		}
		if final && b == nil {
			continue
		}
		if err := sendBlob(l, Message{Type: StateBlob, Name: st.Name, Version: st.Version, Final: final}, b); err != nil {
			errs = append(errs, fmt.Errorf("handoff: state %q: %w", st.Name, err))
			if !errors.Is(err, errMemfd) {
				return errs
			}
		}
	}
	if !final {
		if err := l.Send(Message{Type: StateEnd}); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// errMemfd marks what is wrong with one blob and not with the link.
var errMemfd = errors.New("keep in memory")

// castagnoli is CRC-32C, which processors compute (RFC 3720 section 12.1).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sendBlob(l *Link, m Message, b []byte) error {
	fd, err := newMemfd(m.Name, b)
	if err != nil {
		return fmt.Errorf("%w: %w", errMemfd, err)
	}
	defer func() { _ = unix.Close(fd) }() // the kernel keeps it while it is on its way
	m.Size, m.Sum = int64(len(b)), crc32.Checksum(b, castagnoli)
	return l.send(m, []int{fd})
}

// SendBlob sends a message with bytes of any number up to [MaxState] beside it: the
// receiver's [Message.Blob].
func (l *Link) SendBlob(m Message, b []byte) error {
	if len(b) > MaxState {
		return fmt.Errorf("handoff: send %s: %d bytes, at most %d can travel", m.Type, len(b), MaxState)
	}
	return sendBlob(l, m, b)
}

// Blob takes what came beside a message that was sent with [Link.SendBlob]. It is
// called once, for each such message, or a descriptor stays open.
func (m Message) Blob() ([]byte, error) {
	defer m.discard()
	b, err := content(m)
	if err != nil {
		return nil, fmt.Errorf("handoff: %s: %w", m.Type, err)
	}
	return b, nil
}

// Receive takes a StateBlob, and closes its descriptor whatever happens. A name
// that is not registered is ignored: this generation has no use for it. An error
// says why the state did not arrive; the process goes on without it.
func (s *States) Receive(m Message) error {
	defer m.discard()
	s.mu.Lock()
	i := slices.IndexFunc(s.states, func(st State) bool { return st.Name == m.Name })
	if m.Type != StateBlob || i < 0 {
		s.mu.Unlock()
		return nil
	}
	st := s.states[i]
	s.mu.Unlock()
	if err := s.take(st, m); err != nil {
		return fmt.Errorf("handoff: state %q: %w", st.Name, err)
	}
	return nil
}

// take puts a blob to use.
func (s *States) take(st State, m Message) error {
	load, verb := st.Load, "load"
	if m.Final {
		load, verb = st.Add, "add"
	}
	if load == nil {
		return nil // the other generation has the pair, this one does not
	}
	if m.Version < 1 {
		return fmt.Errorf("came with version %d", m.Version)
	}
	if m.Version != st.Version && st.Migrate == nil {
		return fmt.Errorf("came in version %d; this generation reads version %d and has no Migrate", m.Version, st.Version)
	}
	b, err := content(m)
	if err != nil {
		return err
	}
	if err := s.once(blob{m.Name, m.Final}); err != nil {
		return err
	}
	if m.Version != st.Version {
		b, err = contained(func() ([]byte, error) { return st.Migrate(m.Version, b) })
		if err != nil {
			return fmt.Errorf("migrate from version %d to %d: %w", m.Version, st.Version, err)
		}
	}
	if _, err := contained(func() ([]byte, error) { return nil, load(b) }); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// once keeps a rest from being added a second time.
func (s *States) once(b blob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.got[b]; ok {
		return errors.New("came twice")
	}
	if s.got == nil {
		s.got = map[blob]struct{}{}
	}
	s.got[b] = struct{}{}
	return nil
}

// content reads what came with a StateBlob. Only as much memory is taken as
// the kernel says the descriptor holds, and at most MaxState.
func content(m Message) ([]byte, error) {
	if len(m.files) != 1 || m.short {
		return nil, fmt.Errorf("came with %d descriptors instead of one: is the limit of open files reached?", len(m.files))
	}
	b, err := readMemfd(m.files[0], MaxState)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != m.Size {
		return nil, fmt.Errorf("announced with %d bytes, came with %d", m.Size, len(b))
	}
	if sum := crc32.Checksum(b, castagnoli); sum != m.Sum {
		return nil, fmt.Errorf("damaged on the way: checksum %08x instead of %08x", sum, m.Sum)
	}
	return b, nil
}

// contained calls a function of the service. A panic there must not end a process
// that serves.
func contained(f func() ([]byte, error)) (b []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			b, err = nil, fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
