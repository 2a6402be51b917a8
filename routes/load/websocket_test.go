package load

import (
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
)

// socketServer upgrades each connection, with the id echoed, and then serves it.
func socketServer(t *testing.T, serve func(c net.Conn)) Addr {
	t.Helper()
	return scripted(t, func(c net.Conn) {
		var id string
		up := ws.Upgrader{
			OnHeader: func(key, value []byte) error {
				if string(key) == "X-Request-Id" {
					id = string(value)
				}
				return nil
			},
			OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
				return ws.HandshakeHeaderString("X-Request-Id: " + id + "\r\nX-Pid: 5\r\nX-Generation: 2\r\n"), nil
			},
		}
		if _, err := up.Upgrade(c); err == nil {
			serve(c)
		}
	})
}

func echoes(c net.Conn, n int) bool {
	for range n {
		data, op, err := wsutil.ReadClientData(c)
		if err != nil || wsutil.WriteServerMessage(c, op, data) != nil {
			return false
		}
	}
	return true
}

func closeWith(c net.Conn, code ws.StatusCode) {
	_ = ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(code, "bye")))
	for { // until the client's Close
		f, err := ws.ReadFrame(c)
		if err != nil || f.Header.OpCode == ws.OpClose {
			return
		}
	}
}

// A server that sends Close 1012 sends the client on; it loses nothing, whether the
// client was idle or its next message was on the way.
func TestSocketToldToLeave(t *testing.T) {
	idle := socketServer(t, func(c net.Conn) {
		if echoes(c, 3) {
			closeWith(c, serviceRestart)
		}
	})
	tally := run(t, Workload{Kind: WebSocket, Addr: idle, MaxRequests: 10, Pause: 4 * time.Millisecond})
	c := tally.Total()
	require.NoError(t, tally.Err())
	require.Equal(t, int64(10), c.Answered)
	require.Equal(t, int64(3), c.ToldToClose, "%s", tally)
	require.Equal(t, int64(4), c.Connects)
	require.Zero(t, c.Reconnects)
	require.Equal(t, map[int]int64{2: 4}, c.Generations, "handshakes")

	crossing := socketServer(t, func(c net.Conn) {
		if echoes(c, 3) {
			_, _, _ = wsutil.ReadClientData(c) // a message that has come too late
			closeWith(c, serviceRestart)
		}
	})
	tally = run(t, Workload{Kind: WebSocket, Addr: crossing, MaxRequests: 10})
	c = tally.Total()
	require.NoError(t, tally.Err())
	require.Equal(t, int64(10), c.Sent)
	require.Equal(t, int64(3), c.Repeated, "%s", tally)
	require.Equal(t, int64(3), c.ToldToClose)
}

func TestSocketFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		serve  func(net.Conn)
		class  Class
		failed int64
	}{
		{"drops", func(c net.Conn) { _, _, _ = wsutil.ReadClientData(c) }, EOF, 2},
		{"resets", func(c net.Conn) {
			_, _, _ = wsutil.ReadClientData(c)
			_ = c.(*net.TCPConn).SetLinger(0)
		}, Reset, 2},
		{"closes with 1001", func(c net.Conn) {
			_, _, _ = wsutil.ReadClientData(c)
			closeWith(c, ws.StatusGoingAway)
		}, EOF, 2},
		{"cuts a frame", func(c net.Conn) {
			_, _, _ = wsutil.ReadClientData(c)
			_, _ = c.Write([]byte{0x81, 100, 'x'})
		}, Truncated, 2},
		{"answers another message", func(c net.Conn) {
			_, _, _ = wsutil.ReadClientData(c)
			_ = wsutil.WriteServerText(c, []byte("something else"))
		}, Corrupt, 2},
		{"never answers", func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<10)); _, _ = c.Read(make([]byte, 1)) }, Timeout, 2},
		{"always too late", func(c net.Conn) {
			_, _, _ = wsutil.ReadClientData(c)
			closeWith(c, serviceRestart)
		}, Other, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var bound time.Duration // the default: a busy machine must not make another failure of it
			if test.class == Timeout {
				bound = 150 * time.Millisecond
			}
			tally := run(t, Workload{Kind: WebSocket, Addr: socketServer(t, test.serve), MaxRequests: 2, Timeout: bound})
			require.Equal(t, map[Class]int64{test.class: test.failed}, tally.Total().Failures, "%s", tally)
		})
	}
}

func TestSocketHandshakeFails(t *testing.T) {
	for text, class := range map[string]Class{
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n": Status,
		"":                    EOF,
		"HTTP/1.1 101 Switch": Truncated,
		"SSH-2.0-OpenSSH\r\n": Corrupt,
	} {
		addr := scripted(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4<<10))
			_, _ = c.Write([]byte(text))
		})
		tally := run(t, Workload{Kind: WebSocket, Addr: addr, MaxRequests: 2, Timeout: time.Second})
		require.Equal(t, map[Class]int64{class: 2}, tally.Total().Failures, "%s", tally)
	}
}

// Pings are answered, with and without a message under way.
func TestSocketPing(t *testing.T) {
	addr := socketServer(t, func(c net.Conn) {
		for {
			if ws.WriteFrame(c, ws.NewPingFrame([]byte("p"))) != nil {
				return
			}
			for _, want := range []ws.OpCode{ws.OpText, ws.OpPong} {
				f, err := ws.ReadFrame(c)
				if err != nil {
					return
				}
				f = ws.UnmaskFrameInPlace(f)
				// The pong may come first, when the ping came in a pause.
				if f.Header.OpCode == ws.OpText {
					if ws.WriteFrame(c, ws.NewTextFrame(f.Payload)) != nil {
						return
					}
				} else if want == ws.OpPong && f.Header.OpCode != ws.OpPong {
					return
				}
			}
		}
	})
	tally := run(t, Workload{Kind: WebSocket, Addr: addr, MaxRequests: 20, Pause: 2 * time.Millisecond})
	require.NoError(t, tally.Err())
	require.Equal(t, int64(1), tally.Total().Connects)
}
