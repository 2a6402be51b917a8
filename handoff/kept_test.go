package handoff

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeptSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "kept")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	bound := func(network, addr string) net.Listener {
		ln, err := net.Listen(network, addr)
		require.NoError(t, err)
		if ul, ok := ln.(*net.UnixListener); ok {
			ul.SetUnlinkOnClose(false)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return ln
	}
	tcp := func(name, addr string) Address { return Address{Name: name, Network: "tcp", Addr: addr} }
	first := bound("tcp", "127.0.0.1:0")
	port := first.Addr().(*net.TCPAddr).Port
	addr := first.Addr().String()
	any4 := (&net.TCPAddr{IP: net.IPv4zero, Port: port}).String()

	for _, tc := range []struct {
		name    string
		kept    Address
		before  func()
		listen  Address
		taken   bool // the kept socket, with its queue
		dropped []Address
	}{
		{"the same", tcp("http", addr), nil, tcp("http", addr), true, nil},
		{"under another name", tcp("web", addr), nil, tcp("http", addr), true, []Address{tcp("web", addr)}},
		{"another address under its name", tcp("http", addr), nil, tcp("http", "127.0.0.1:0"), false, []Address{tcp("http", addr)}},
		{"in the way under its name", tcp("http", addr), nil, tcp("http", any4), false, []Address{tcp("http", addr)}},
		{"in the way under another one", tcp("web", addr), nil, tcp("http", any4), false, []Address{tcp("web", addr)}},
		{"of no use", tcp("web", addr), nil, tcp("http", "127.0.0.1:0"), false, []Address{tcp("web", addr)}},
		{"Unix", Address{"http", "unix", path}, nil, Address{"http", "unix", path}, true, nil},
		{
			"Unix without its file",
			Address{"http", "unix", path},
			func() { require.NoError(t, os.Remove(path)) },
			Address{"http", "unix", path},
			false,
			[]Address{{"http", "unix", path}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_ = first.Close()
			_ = os.Remove(path)
			ln := bound(tc.kept.Network, tc.kept.Addr)
			if tc.before != nil {
				tc.before()
			}
			set := NewSet(none{}, nil, BindOptions{KeepFiles: true})
			var dropped []Address
			set.Keep(tc.kept, ln, func(a Address) { dropped = append(dropped, a) })
			lns, err := set.Listen(tc.listen)
			require.NoError(t, err)
			require.Len(t, lns, 1)
			require.False(t, lns[0].Passed())
			require.Equal(t, tc.listen, lns[0].Address())
			require.Equal(t, tc.taken, lns[0].inner == ln)
			set.DropKept()
			require.Equal(t, tc.dropped, dropped)
			require.NoError(t, set.Close())
			if tc.kept.Network == "unix" {
				require.FileExists(t, path)
			}
		})
	}
}

// A name may pass on to another address, and an address to another name.
func TestKeptNamesSwitch(t *testing.T) {
	old, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	set := NewSet(none{}, nil, BindOptions{})
	set.Keep(Address{Name: "web", Network: "tcp", Addr: old.Addr().String()}, old, func(Address) {})
	_, err = set.Listen(Address{Name: "web", Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: old.Addr().String()})
	require.NoError(t, err)
	require.Same(t, old, lns[0].inner)
	require.NoError(t, set.Close())
}

// A socket unit's socket goes before one that was kept.
func TestPassedBeforeKept(t *testing.T) {
	mk := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return ln
	}
	unit, old, spare := mk(), mk(), mk()
	set := NewSet(none{}, map[string][]net.Listener{"http": {unit}}, BindOptions{})
	dropped := 0
	a := Address{Name: "http", Network: "tcp", Addr: old.Addr().String()}
	set.Keep(a, old, func(Address) { dropped++ })
	set.Keep(Address{Name: "spare", Network: "tcp", Addr: spare.Addr().String()}, spare, func(Address) { dropped += 10 })
	lns, err := set.Listen(a)
	require.NoError(t, err)
	require.Len(t, lns, 1)
	require.Equal(t, unit.Addr(), lns[0].Addr())
	require.Zero(t, dropped, "another listener may ask for it")
	// The end of a process is no reason to let go of what is held for the next one.
	require.NoError(t, set.Close())
	_, err = spare.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	require.Zero(t, dropped)
}
