package handoff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// alone is the one connection of a rig, when it waits at a boundary.
func (r *rig) alone(t *testing.T) *Conn {
	t.Helper()
	until(t, "it waits", func() bool { return r.waiting() == 1 })
	return r.snapshot()[0]
}

// TestI3_NobodyReadsInTransit: bytes that arrive while a sender has the descriptor
// stay in the socket, for whoever has the connection afterwards.
func TestI3_NobodyReadsInTransit(t *testing.T) {
	r := serve(t, &http.Server{Handler: ok}, "127.0.0.1:0")
	client := r.dial(t)
	client.send(get)
	client.answer()
	c := r.alone(t)
	var w wave
	for range 3 {
		to := &Sender{}
		r.mover.Store(to)
		p := c.offer(to, &w)
		require.NotNil(t, p)
		require.Nil(t, c.offer(to, &w), "once is enough")
		require.False(t, c.retire(), "nor is it closed meanwhile")
		client.send(get)
		until(t, "the owner waits for the verdict", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.verdict != nil
		})
		require.True(t, unreadBytes(c.socket))
		p.verdict(false)
		body, _ := client.answer()
		require.Equal(t, "ok", body)
		r.alone(t)
	}

	to := &Sender{}
	r.mover.Store(to)
	p := c.offer(to, &w)
	other, err := newInherited(dup(t, p.fd), c.LocalAddr(), c.RemoteAddr())
	require.NoError(t, err)
	client.send(get)
	p.verdict(true)
	until(t, "it is gone here", func() bool { return r.Counts().Conns == 0 })
	require.NoError(t, w.wait(t.Context(), 0))
	b := make([]byte, len(get))
	_, err = io.ReadFull(other, b)
	require.NoError(t, err)
	require.Equal(t, get, string(b), "no byte was read here")
	require.NoError(t, other.Close())
	_, err = client.br.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

// An attempt to read that comes late: another process has the connection, and its
// owner here has not ended yet.
func TestI3_NobodyReadsWhatHasMoved(t *testing.T) {
	here, far := connected(t)
	_, err := far.Write([]byte(get))
	require.NoError(t, err)
	c := &Conn{socket: here, server: &Server{}, moved: true, parked: true}
	require.Nil(t, c.offer(&Sender{}, &wave{}), "nor is it offered again")
	require.False(t, c.kick())
	n, err := c.read(make([]byte, 10))
	require.NoError(t, err)
	require.Zero(t, n)
	c.arrival = &arrival{prefix: []byte("GET")}
	n, err = c.receive(make([]byte, 1), c.arrival, true)
	require.NoError(t, err)
	require.Zero(t, n)
	require.True(t, unreadBytes(here))
}

// The errors of a guarded read are those of a read.
func TestGuardedReadErrors(t *testing.T) {
	for _, what := range []string{"deadline", "close", "end", "reset"} {
		for _, adopted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/adopted=%t", what, adopted), func(t *testing.T) {
				var errs [2]error
				for i := range errs {
					here, far := connected(t)
					c := &Conn{socket: here, parked: true}
					if adopted {
						fd, err := descriptor(here)
						require.NoError(t, err)
						c.socket, err = newInherited(dup(t, fd), here.LocalAddr(), here.RemoteAddr())
						require.NoError(t, err)
						t.Cleanup(func() { _ = c.socket.Close() })
					}
					switch what {
					case "deadline":
						require.NoError(t, c.socket.SetReadDeadline(past))
					case "close":
						require.NoError(t, c.socket.Close())
					case "end":
						require.NoError(t, far.Close())
					case "reset":
						require.NoError(t, far.SetLinger(0))
						require.NoError(t, far.Close())
					}
					read := c.socket.Read
					if i > 0 {
						read = c.read
					}
					_, errs[i] = read(make([]byte, 1))
					require.Error(t, errs[i])
					if i > 0 {
						errs[i] = c.readError(errs[i])
					}
				}
				if op, ok := errs[0].(*net.OpError); ok { //nolint:errorlint // as net/http has it
					require.IsType(t, op, errs[1])
					op2 := errs[1].(*net.OpError) //nolint:errorlint // as above
					require.Equal(t, op.Op, op2.Op)
					require.ErrorIs(t, op2.Err, root(op.Err))
					return
				}
				require.Equal(t, errs[0], errs[1])
			})
		}
	}
}

// The steady state costs no allocation for a read, on a connection that this
// process has accepted or adopted.
func TestReadsDoNotAllocate(t *testing.T) {
	for _, adopted := range []bool{false, true} {
		here, far := connected(t)
		c := &Conn{socket: here}
		if adopted {
			fd, err := descriptor(here)
			require.NoError(t, err)
			c.socket, err = newInherited(dup(t, fd), here.LocalAddr(), here.RemoteAddr())
			require.NoError(t, err)
			t.Cleanup(func() { _ = c.socket.Close() })
		}
		out, in := []byte("x"), make([]byte, 1)
		for _, read := range []func([]byte) (int, error){c.read, c.socket.Read} {
			require.Zero(t, testing.AllocsPerRun(100, func() {
				_, err := far.Write(out)
				n, rerr := read(in)
				if err != nil || rerr != nil || n != 1 {
					t.Fatal(err, rerr, n)
				}
			}))
		}
		// net/http ends a read with a deadline in each request: the error is one.
		require.NoError(t, c.socket.SetReadDeadline(past))
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _, _ = c.socket.Read(in) }), 1.0)
	}
}

// root is what an error comes from in the end.
func root(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// connected is a pair of sockets.
func connected(t *testing.T) (here, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	a, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	b, err := ln.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	return other
}
