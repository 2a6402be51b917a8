package handoff

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// descriptors counts the open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here: ", err)
	}
	return len(names)
}

// keepsDescriptors fails the test if it leaves another number of them open.
func keepsDescriptors(t *testing.T) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() { require.Equal(t, before, descriptors(t), "open descriptors") })
}

// cell is a state that holds bytes.
type cell struct {
	State
	value  []byte
	loaded int
}

func newCell(name string, version int, value []byte) *cell {
	c := &cell{value: value}
	c.State = State{
		Name: name, Version: version,
		Save: func() ([]byte, error) { return c.value, nil },
		Load: func(b []byte) error { c.value, c.loaded = b, c.loaded+1; return nil },
	}
	return c
}

func states(t *testing.T, sts ...State) *States {
	t.Helper()
	s := &States{}
	for _, st := range sts {
		require.NoError(t, s.Register(st))
	}
	return s
}

// transfer passes everything from one process's states to another's, as its peers do.
func transfer(t *testing.T, from, to *States, final bool) (sent, received []error) {
	t.Helper()
	a, b := links(t)
	done := make(chan []error, 1)
	go func() {
		errs := from.Send(a, final)
		_ = a.Close()
		done <- errs
	}()
	ended := false
	for {
		m, err := b.Receive(10 * time.Second)
		if err != nil {
			break
		}
		require.False(t, ended, "a message after the end")
		if m.Type == StateEnd {
			ended = true
			continue
		}
		require.Equal(t, StateBlob, m.Type)
		require.Equal(t, final, m.Final)
		if err := to.Receive(m); err != nil {
			received = append(received, err)
		}
	}
	require.Equal(t, !final, ended)
	require.NoError(t, b.Close())
	return <-done, received
}

func TestStateTravels(t *testing.T) {
	keepsDescriptors(t)
	big := make([]byte, 32<<20)
	_, _ = rand.Read(big)
	olds := []*cell{newCell("empty", 1, nil), newCell("small", 3, []byte("zwölf")), newCell("big", 1, big), newCell("retired", 1, []byte("x"))}
	news := []*cell{newCell("small", 3, nil), newCell("big", 1, nil), newCell("empty", 1, []byte("default")), newCell("added", 1, []byte("default"))}
	var from, to States
	for i := range olds {
		require.NoError(t, from.Register(olds[i].State))
		require.NoError(t, to.Register(news[i].State))
	}
	sent, received := transfer(t, &from, &to, false)
	require.Empty(t, sent)
	require.Empty(t, received)
	require.Equal(t, "zwölf", string(news[0].value))
	require.True(t, bytes.Equal(big, news[1].value))
	require.Empty(t, news[2].value)
	require.Equal(t, 1, news[2].loaded)
	require.Zero(t, news[3].loaded, "nothing came")

	sent, received = transfer(t, &from, &to, true)
	require.Empty(t, sent)
	require.Empty(t, received, "none of them has a rest")
}

func TestStateNamesAndPairs(t *testing.T) {
	good := newCell("a", 1, nil).State
	change := func(f func(*State)) State { st := good; f(&st); return st }
	rest, add := good.Save, good.Load
	for text, st := range map[string]State{
		"1 to 128 bytes":      change(func(s *State) { s.Name = "" }),
		"this has 129":        change(func(s *State) { s.Name = strings.Repeat("n", 129) }),
		"printable":           change(func(s *State) { s.Name = "a\x00" }),
		"UTF-8":               change(func(s *State) { s.Name = "a\xff" }),
		"reserved":            change(func(s *State) { s.Name = "holdfast/a" }),
		"first version is 1":  change(func(s *State) { s.Version = 0 }),
		"Save goes with Load": change(func(s *State) { s.Load = nil }),
		"Rest with Add":       change(func(s *State) { s.Rest = rest }),
		"neither":             change(func(s *State) { s.Save, s.Load = nil, nil }),
	} {
		require.ErrorContains(t, (&States{}).Register(st), text)
	}
	s := states(t, good, change(func(s *State) {
		s.Name, s.Save, s.Load, s.Rest, s.Add = strings.Repeat("n", 128), nil, nil, rest, add
	}))
	require.ErrorContains(t, s.Register(good), "twice")
}

func TestStateOfAnotherVersion(t *testing.T) {
	keepsDescriptors(t)
	from := states(t, newCell("a", 1, []byte("old")).State, newCell("b", 1, []byte("old")).State, newCell("c", 9, []byte("old")).State, newCell("d", 1, nil).State)
	plain, migrating, failing, panicking := newCell("a", 2, nil), newCell("b", 2, nil), newCell("c", 2, nil), newCell("d", 2, nil)
	migrating.Migrate = func(version int, b []byte) ([]byte, error) {
		require.Equal(t, 1, version)
		return append(b, " made new"...), nil
	}
	failing.Migrate = func(int, []byte) ([]byte, error) { return nil, errors.New("from the future") }
	panicking.Migrate = func(int, []byte) ([]byte, error) { panic("unforeseen") }
	sent, received := transfer(t, from, states(t, plain.State, migrating.State, failing.State, panicking.State), false)
	require.Empty(t, sent)
	require.Len(t, received, 3)
	require.ErrorContains(t, received[0], `"a": came in version 1; this generation reads version 2`)
	require.ErrorContains(t, received[1], `"c": migrate from version 9 to 2: from the future`)
	require.ErrorContains(t, received[2], `"d": migrate from version 1 to 2: panic: unforeseen`)
	require.Equal(t, "old made new", string(migrating.value))
	require.Zero(t, plain.loaded+failing.loaded+panicking.loaded)
}

func TestStateThatFailsCostsOnlyItself(t *testing.T) {
	keepsDescriptors(t)
	large := make([]byte, MaxState+1)
	faults := map[string]func() ([]byte, error){
		"fails":  func() ([]byte, error) { return nil, errors.New("out of order") },
		"panics": func() ([]byte, error) { var none []byte; return none[1:][:1], nil },
		"large":  func() ([]byte, error) { return large, nil },
	}
	var from, to States
	load := func(name string) State { return newCell(name, 1, nil).State }
	for _, name := range []string{"fails", "panics", "large"} {
		st := newCell(name, 1, nil).State
		st.Save, st.Rest, st.Add = faults[name], faults[name], st.Load
		require.NoError(t, from.Register(st))
		require.NoError(t, to.Register(load(name)))
	}
	healthy := []string{"load fails", "load panics", "healthy"}
	for _, name := range healthy {
		require.NoError(t, from.Register(newCell(name, 1, []byte("x")).State))
	}
	bad := load("load fails")
	bad.Load = func([]byte) error { return errors.New("no sense in it") }
	require.NoError(t, to.Register(bad))
	bad.Name = "load panics"
	bad.Load = func([]byte) error { panic(errors.New("unforeseen")) }
	require.NoError(t, to.Register(bad))
	last := newCell("healthy", 1, nil)
	require.NoError(t, to.Register(last.State))

	sent, received := transfer(t, &from, &to, false)
	require.Len(t, sent, 3)
	require.ErrorContains(t, sent[0], `"fails": save: out of order`)
	require.ErrorContains(t, sent[1], `"panics": save: panic: runtime error: slice bounds`)
	require.ErrorContains(t, sent[1], "state_test.go", "and where")
	require.ErrorContains(t, sent[2], `"large": save: 67108865 bytes`)
	require.Len(t, received, 2)
	require.ErrorContains(t, received[0], `"load fails": load: no sense in it`)
	require.ErrorContains(t, received[1], `"load panics": load: panic: unforeseen`)
	require.Equal(t, "x", string(last.value))

	sent, received = transfer(t, &from, &to, true)
	require.Len(t, sent, 3)
	require.ErrorContains(t, sent[0], `"fails": rest: out of order`)
	require.Empty(t, received)
}

// A counter that goes on in the old process after Save is exact in the end, also
// when an upgrade before this one has failed.
func TestStateRestMakesACounterExact(t *testing.T) {
	keepsDescriptors(t)
	type counter struct {
		State
		n, saved atomic.Int64
	}
	newCounter := func() *counter {
		c := &counter{}
		c.State = State{
			Name: "requests", Version: 1,
			Save: func() ([]byte, error) {
				n := c.n.Load()
				c.saved.Store(n)
				return binary.AppendVarint(nil, n), nil
			},
			Rest: func() ([]byte, error) { return binary.AppendVarint(nil, c.n.Load()-c.saved.Load()), nil },
		}
		c.Add = func(b []byte) error { n, _ := binary.Varint(b); c.n.Add(n); return nil }
		c.Load = c.Add
		return c
	}
	old := newCounter()
	from := states(t, old.State)
	old.n.Store(1000)
	_, errs := transfer(t, from, states(t, newCounter().State), false) // this one then gives up
	require.Empty(t, errs)
	old.n.Add(10)

	fresh := newCounter()
	to := states(t, fresh.State)
	_, errs = transfer(t, from, to, false)
	require.Empty(t, errs)
	require.EqualValues(t, 1010, fresh.n.Load())
	old.n.Add(7)
	fresh.n.Add(100) // serves already
	_, errs = transfer(t, from, to, true)
	require.Empty(t, errs)
	require.EqualValues(t, 1117, fresh.n.Load())

	_, errs = transfer(t, from, to, true)
	require.Len(t, errs, 1)
	require.ErrorContains(t, errs[0], "came twice")
	require.EqualValues(t, 1117, fresh.n.Load())
}

func TestStateIsNotSentToAPeerThatIsGone(t *testing.T) {
	keepsDescriptors(t)
	a, b := links(t)
	require.NoError(t, b.Close())
	errs := states(t, newCell("a", 1, nil).State, newCell("b", 1, nil).State).Send(a, false)
	require.Len(t, errs, 1, "the first tells enough")
	require.ErrorIs(t, errs[0], unix.EPIPE)
	require.NoError(t, a.Close())
}
