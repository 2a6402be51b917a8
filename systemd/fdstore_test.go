package systemd

import (
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStoredNames(t *testing.T) {
	for _, text := range []string{"http=:8080", "http=[::1]:80", "a b=unix:/run/x=y:é%", "admin=unix:@x", ""} {
		name, ok := StoredName(text)
		require.True(t, ok)
		// What FDNAME= may hold: sd_notify(3).
		require.NotContains(t, name, ":")
		require.Equal(t, -1, strings.IndexFunc(name, func(r rune) bool { return r < ' ' || r > '~' }))
		got, ok := StoredText(name)
		require.True(t, ok)
		require.Equal(t, text, got)
	}
	_, ok := StoredName(strings.Repeat("/", 100))
	require.False(t, ok, "longer than a name may be")
	for _, name := range []string{"http", "LISTEN_FD_3", "connection", "holdfast.socket", "holdfast=%"} {
		_, ok := StoredText(name)
		require.False(t, ok, name)
	}
}

func TestStore(t *testing.T) {
	m := newManager(t, socketPath(t))
	n := New()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	require.NoError(t, n.Store("holdfast=x", ln.(*net.TCPListener)))
	msg, files, err := m.receive()
	require.NoError(t, err)
	require.Equal(t, "FDSTORE=1\nFDPOLL=0\nFDNAME=holdfast=x", msg)
	require.Len(t, files, 1)
	same, err := net.FileListener(files[0])
	require.NoError(t, err)
	require.NoError(t, files[0].Close())
	require.Equal(t, ln.Addr(), same.Addr())
	require.NoError(t, same.Close())

	var wg sync.WaitGroup
	wg.Go(func() { err = n.Forget("holdfast=x") })
	require.Equal(t, "FDSTOREREMOVE=1\nFDNAME=holdfast=x", m.message())
	msg, files, rerr := m.receive()
	require.NoError(t, rerr)
	require.Equal(t, "BARRIER=1", msg)
	for _, f := range files {
		require.NoError(t, f.Close())
	}
	wg.Wait()
	require.NoError(t, err)

	require.NoError(t, ln.Close())
	require.Error(t, n.Store("holdfast=x", ln.(*net.TCPListener)))
	require.NoError(t, (&Notifier{}).Store("x", ln.(*net.TCPListener)))
	require.NoError(t, (&Notifier{}).Forget("x"))
	t.Setenv(envNotifySocket, os.DevNull)
	require.Error(t, New().Forget("x"))
}
