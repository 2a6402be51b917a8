package handoff

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func links(t testing.TB) (a, b *Link) {
	t.Helper()
	a, f, err := NewLink()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no link on this system")
	}
	require.NoError(t, err)
	b, err = OpenLink(f)
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func TestLink(t *testing.T) {
	a, b := links(t)
	hello := Message{Type: Hello, Versions: []int{1, 7}, Build: "v1", Generation: 3, PID: 42}
	require.NoError(t, a.Send(hello))
	require.NoError(t, a.Send(Message{Type: Released}))
	got, err := b.Receive(time.Second)
	require.NoError(t, err)
	require.Equal(t, hello, got)
	require.True(t, got.Speaks())
	require.False(t, Message{Versions: []int{99}}.Speaks())

	// The end comes after what was queued, and again each time.
	require.NoError(t, b.Send(Message{Type: Committed})) // never read by a
	require.NoError(t, a.Close())
	got, err = b.Receive(0)
	require.NoError(t, err)
	require.Equal(t, Released, got.Type)
	for range 2 {
		_, err = b.Receive(0)
		require.ErrorIs(t, err, io.EOF)
	}
	require.Error(t, b.Send(hello), "the peer is gone")
}

func TestLinkFinish(t *testing.T) {
	a, b := links(t)
	require.NoError(t, b.Send(Message{Type: Failed, Reason: strings.Repeat("\x01", 1<<20)}))
	require.NoError(t, a.Finish())
	m, err := a.Receive(time.Second)
	require.NoError(t, err)
	require.Len(t, m.Reason, maxReason)
	_, err = a.Receive(time.Second)
	require.ErrorIs(t, err, io.EOF, "although b lives")

	// It also wakes one that waits already.
	done := make(chan error)
	go func() { _, err := b.Receive(0); done <- err }()
	require.NoError(t, b.Finish())
	require.ErrorIs(t, <-done, io.EOF)
}

func TestLinkWaitIsBounded(t *testing.T) {
	a, b := links(t)
	_, err := a.Receive(time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	done := make(chan error)
	go func() { _, err := b.Receive(0); done <- err }()
	require.NoError(t, b.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
}

func TestLinkRefusesWhatIsNoMessage(t *testing.T) {
	a, b := links(t)
	for _, text := range []string{"{", "[]", "{}", strings.Repeat(" ", maxMessage+1)} {
		_, err := a.conn.Write([]byte(text))
		require.NoError(t, err)
		_, err = b.Receive(time.Second)
		require.ErrorContains(t, err, "from the peer")
	}
	// What is of a later version is no fault.
	_, err := a.conn.Write([]byte(`{"type":"later","more":1}`))
	require.NoError(t, err)
	m, err := b.Receive(time.Second)
	require.NoError(t, err)
	require.EqualValues(t, "later", m.Type)
}

// What an item leaves out because the one before has it comes back, an empty value
// after another one too.
func TestItemsLikeTheOneBefore(t *testing.T) {
	items := []Item{
		{Kind: kindIdle, Listener: "a", Network: "tcp", Local: "127.0.0.1:1", Remote: "127.0.0.1:2", Left: 1},
		{Kind: kindIdle, Listener: "a", Network: "tcp", Local: "127.0.0.1:1", Remote: "127.0.0.1:3"},
		{Kind: kindIdle, Listener: "a", Network: "tcp", Local: "127.0.0.1:1", Remote: "127.0.0.1:4", Prefix: []byte("G")},
		{Kind: kindFresh, Network: "unix"},
		{Kind: kindFresh, Network: "unix", Remote: "@"},
	}
	m := Message{Type: Offer, Seq: 1, Items: slices.Clone(items)}
	for i := range m.Items[1:] {
		m.Items[i+1].shorten(items[i])
	}
	require.Equal(t, Item{Like: true, Remote: "@"}, m.Items[4])
	b, err := json.Marshal(m)
	require.NoError(t, err)
	m, err = decodeMessage(b)
	require.NoError(t, err)
	require.Equal(t, items, m.Items)
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte(`{"type":"hello","versions":[1],"pid":1}`))
	f.Add([]byte(`{"type":"offer","seq":1,"items":[{"like":true},{"kind":"idle","network":"tcp"},{"like":true,"prefix":"Rw=="}]}`))
	f.Add([]byte(`{"type":`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMessage(b)
		if err == nil && m.Type == "" {
			t.Error("a message without a type")
		}
	})
}
