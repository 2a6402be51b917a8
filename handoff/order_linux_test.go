package handoff

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Two that stop the same sender: the second must not make the peer's answers
// unheard for the first.
func TestI3_AnswersAreHeardByASenderThatIsStoppedTwice(t *testing.T) {
	r, peer, far, _ := lonely(t, 10*time.Second, 1)
	to := peer.Sender()
	moved := make(chan error, 1)
	go func() { moved <- r.Move(context.Background(), to) }()
	m, err := far.Receive(10 * time.Second)
	require.NoError(t, err)
	defer m.discard()

	stopped := make(chan struct{})
	go func() { defer close(stopped); peer.StopSending() }()
	until(t, "the first has begun", func() bool { peer.mu.Lock(); defer peer.mu.Unlock(); return peer.sender == nil })
	peer.StopSending()
	require.NoError(t, far.Send(Message{Type: Ack, Seq: m.Seq, Taken: []byte{1}}))
	<-stopped
	require.NoError(t, <-moved)
	got, refused := to.Counts()
	require.Equal(t, 1, got)
	require.Zero(t, refused)
	until(t, "they are gone here", func() bool { return r.Counts().Conns == 0 })
}

// A peer that says something nobody understands, and has acknowledged a connection
// right behind it: the connection is the peer's, and two must never read it.
func TestI3_AnAnswerBehindNonsenseCounts(t *testing.T) {
	r, peer, far, _ := lonely(t, 10*time.Second, 1)
	to := peer.Sender()
	moved := make(chan error, 1)
	go func() { moved <- r.Move(context.Background(), to) }()
	m, err := far.Receive(10 * time.Second)
	require.NoError(t, err)
	defer m.discard()
	to.mu.Lock() // holds Listen at the first of these until all are queued
	errs := []error{far.Send(Message{Type: Ack, Seq: m.Seq + 1})}
	_, err = far.conn.Write([]byte("nonsense"))
	errs = append(errs, err, far.Send(Message{Type: Ack, Seq: m.Seq, Taken: []byte{1}}))
	to.mu.Unlock()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, <-moved)
	got, _ := to.Counts()
	require.Equal(t, 1, got)
	until(t, "the peer is shut out", func() bool { return far.Send(Message{Type: "later"}) != nil })
	require.False(t, peer.Sender().hand(-1, Item{}))
}

// A connection that has been acknowledged is served even if the process stops
// between the acknowledgement and its first look.
func TestI2_AnAcknowledgedConnectionHasASeat(t *testing.T) {
	p := newPair(t, "127.0.0.1:0", func() *http.Server { return &http.Server{Handler: ok} })
	connected := func() (fd int, c net.Conn) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		f := os.NewFile(uintptr(fds[1]), "client")
		c, err = net.FileConn(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		t.Cleanup(func() { _ = c.Close() })
		return fds[0], c
	}
	fd, conn := connected()
	g, err := p.newPeer.receiver.adopt(Item{Kind: kindIdle, Network: "unix"}, fd)
	require.NoError(t, err)
	p.new.CloseArrivals()
	g.enter()
	c := client{t: t, Conn: conn}
	c.send(get)
	b := make([]byte, 1)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = conn.Read(b)
	require.NoError(t, err, "an answer")

	fd, _ = connected()
	_, err = p.newPeer.receiver.adopt(Item{Kind: kindIdle, Network: "unix"}, fd)
	require.ErrorIs(t, err, errNoHome, "no seat is given out any more")
	require.NoError(t, unix.Close(fd))
}
