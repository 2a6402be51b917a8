package routes

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

const handshake = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// peer is the client's end of a WebSocket, frame by frame.
type peer struct {
	t    *testing.T
	conn net.Conn
	rd   *bufio.Reader
}

func (p peer) send(frames ...ws.Frame) {
	p.t.Helper()
	var b bytes.Buffer
	for _, f := range frames {
		require.NoError(p.t, ws.WriteFrame(&b, ws.MaskFrame(f)))
	}
	p.sendRaw(b.Bytes())
}

func (p peer) sendRaw(b []byte) {
	p.t.Helper()
	_, err := p.conn.Write(b)
	require.NoError(p.t, err)
}

func (p peer) expect(op ws.OpCode, payload string) {
	p.t.Helper()
	f, err := ws.ReadFrame(p.rd)
	require.NoError(p.t, err)
	require.Equal(p.t, op, f.Header.OpCode)
	require.True(p.t, f.Header.Fin)
	require.True(p.t, payload == string(f.Payload), "got %q", clip(string(f.Payload), 100))
}

func (p peer) expectClose(code ws.StatusCode) {
	p.t.Helper()
	f, err := ws.ReadFrame(p.rd)
	require.NoError(p.t, err)
	require.Equal(p.t, ws.OpClose, f.Header.OpCode)
	got, _ := ws.ParseCloseFrameData(f.Payload)
	require.Equal(p.t, code, got)
}

func (p peer) expectEOF() {
	p.t.Helper()
	_, err := p.rd.ReadByte()
	require.ErrorIs(p.t, err, io.EOF)
}

// open makes the handshake, with first as the bytes that follow it at once.
func open(t *testing.T, srv *httptest.Server, first ...byte) peer {
	t.Helper()
	conn := dial(t, srv)
	_, err := conn.Write(append([]byte(handshake), first...))
	require.NoError(t, err)
	rd := bufio.NewReader(conn)
	resp, err := http.ReadResponse(rd, nil) //nolint:bodyclose // 101 has none
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-WebSocket-Accept")) // RFC 6455 section 1.3
	require.NotEmpty(t, resp.Header.Get("X-Request-Id"))
	require.Equal(t, "7", resp.Header.Get("X-Pid"))
	return peer{t, conn, rd}
}

func closeFrame(code ws.StatusCode, reason string) ws.Frame {
	return ws.NewCloseFrame(ws.NewCloseFrameBody(code, reason))
}

func TestWebSocket(t *testing.T) {
	log, lines := newLog()
	srv := start(t, New(Deps{Log: log, Identify: true, PID: 7, CloseWait: 50 * time.Millisecond}))
	mib := strings.Repeat("x", socketMessageLimit)
	for _, tc := range []struct {
		name string
		talk func(peer)
	}{
		{"echo", func(p peer) {
			p.send(ws.NewTextFrame([]byte("hé")), ws.NewBinaryFrame([]byte("\x00\xff")), ws.NewTextFrame(nil))
			p.expect(ws.OpText, "hé")
			p.expect(ws.OpBinary, "\x00\xff")
			p.expect(ws.OpText, "")
			p.send(closeFrame(1000, "bye"))
			p.expectClose(1000)
		}},
		{"ping", func(p peer) {
			p.send(ws.NewPingFrame([]byte("are you there")), ws.NewPongFrame([]byte("unasked")), ws.NewPingFrame(nil))
			p.expect(ws.OpPong, "are you there")
			p.expect(ws.OpPong, "")
			p.send(closeFrame(1000, ""))
			p.expectClose(1000)
		}},
		{"fragments, a ping between, a character in two", func(p peer) {
			p.send(ws.NewFrame(ws.OpText, false, []byte("h\xc3")), ws.NewPingFrame([]byte("p")),
				ws.NewFrame(ws.OpContinuation, false, []byte("\xa9")), ws.NewFrame(ws.OpContinuation, true, []byte("!")))
			p.expect(ws.OpPong, "p")
			p.expect(ws.OpText, "hé!")
			p.send(closeFrame(1000, ""))
			p.expectClose(1000)
		}},
		{"close between fragments", func(p peer) {
			p.send(ws.NewFrame(ws.OpText, false, []byte("a")), closeFrame(1001, ""))
			p.expectClose(1001)
		}},
		{"largest message", func(p peer) {
			p.send(ws.NewTextFrame([]byte(mib)))
			p.expect(ws.OpText, mib)
			p.send(closeFrame(1000, ""))
			p.expectClose(1000)
		}},
		{"too large", func(p peer) {
			p.send(ws.NewBinaryFrame([]byte(mib + "x")))
			p.expectClose(ws.StatusMessageTooBig)
		}},
		{"too large in fragments", func(p peer) {
			p.send(ws.NewFrame(ws.OpBinary, false, []byte(mib)), ws.NewFrame(ws.OpContinuation, true, []byte("x")))
			p.expectClose(ws.StatusMessageTooBig)
		}},
		{"not UTF-8", func(p peer) {
			p.send(ws.NewTextFrame([]byte("\xff")))
			p.expectClose(ws.StatusInvalidFramePayloadData)
		}},
		{"not masked", func(p peer) {
			p.sendRaw(ws.MustCompileFrame(ws.NewTextFrame([]byte("x"))))
			p.expectClose(ws.StatusProtocolError)
		}},
		{"continuation of nothing", func(p peer) {
			p.send(ws.NewFrame(ws.OpContinuation, true, nil))
			p.expectClose(ws.StatusProtocolError)
		}},
		{"close without a code", func(p peer) {
			p.send(ws.NewCloseFrame(nil))
			p.expect(ws.OpClose, "")
		}},
		{"close with a code ws does not know", func(p peer) {
			p.send(closeFrame(1013, "try again later"))
			p.expectClose(1013)
		}},
		{"close with half a code", func(p peer) {
			p.send(ws.NewCloseFrame([]byte{3}))
			p.expectClose(ws.StatusProtocolError)
		}},
		{"close with a code for no frame", func(p peer) {
			p.send(closeFrame(ws.StatusAbnormalClosure, ""))
			p.expectClose(ws.StatusProtocolError)
		}},
		{"close with a reason that is not UTF-8", func(p peer) {
			p.send(ws.NewCloseFrame([]byte{3, 232, 255}))
			p.expectClose(ws.StatusProtocolError)
		}},
		{"vanishes", func(p peer) { require.NoError(p.t, p.conn.(*net.TCPConn).CloseWrite()) }},
		{"vanishes in a message", func(p peer) {
			p.sendRaw([]byte{0x81})
			require.NoError(p.t, p.conn.(*net.TCPConn).CloseWrite())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := open(t, srv)
			p.t = t
			tc.talk(p)
			p.expectEOF()
			require.NoError(t, p.conn.Close())
			got := lines.next(t, "request")
			require.EqualValues(t, 101, got["status"])
			require.Equal(t, "info", got["level"])
		})
	}
}

// Frames sent with the handshake, before its answer, are in net/http's buffer.
func TestWebSocketReadsWhatCameWithTheHandshake(t *testing.T) {
	srv := start(t, New(Deps{Identify: true, PID: 7}))
	p := open(t, srv, ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("early"))))...)
	p.expect(ws.OpText, "early")
	p.send(ws.NewTextFrame([]byte("later")), closeFrame(1000, ""))
	p.expect(ws.OpText, "later")
	p.expectClose(1000)
}

func TestWebSocketHandshakeErrors(t *testing.T) {
	srv := start(t, New(Deps{Identify: true, PID: 7}))
	for _, tc := range []struct {
		name, drop, put string
		status          int
		code            string
		header, value   string
	}{
		{"no upgrade", "Upgrade: websocket", "Accept: */*", 426, "websocket_only", "Upgrade", "websocket"},
		{"not in Connection", "keep-alive, Upgrade", "keep-alive", 426, "websocket_only", "Upgrade", "websocket"},
		{"version", "Version: 13", "Version: 12", 426, "websocket_version", "Sec-Websocket-Version", "13"},
		{"key", "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400, "websocket_key", "X-Pid", "7"},
		{"host", "Host: x", "Host:", 400, "websocket_host", "X-Pid", "7"},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", 400, "websocket_needs_http11", "X-Pid", "7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := dial(t, srv)
			require.Contains(t, handshake, tc.drop)
			_, err := io.WriteString(conn, strings.Replace(handshake, tc.drop, tc.put, 1))
			require.NoError(t, err)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(io.LimitReader(resp.Body, resp.ContentLength))
			require.NoError(t, err)
			requireError(t, answer{resp.StatusCode, resp.Header, string(body)}, tc.status, tc.code)
			require.Equal(t, tc.value, resp.Header.Get(tc.header))
		})
	}
	// A writer that cannot be hijacked, as over HTTP/2.
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake)))
	require.NoError(t, err)
	require.Equal(t, 400, serveOne(New(Deps{}), req).Code)
}

// leaving returns Deps.Leaving, what it was called with, and what makes them leave.
func leaving() (func(context.Context) <-chan struct{}, chan context.Context, chan struct{}) {
	leave, called := make(chan struct{}), make(chan context.Context, 8)
	return func(ctx context.Context) <-chan struct{} {
		called <- ctx
		return leave
	}, called, leave
}

func TestWebSocketLeaves(t *testing.T) {
	type key struct{}
	text := func(s string) []byte { return ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte(s)))) }
	for _, tc := range []struct {
		name string
		talk func(p peer, leave chan struct{})
	}{
		{"while idle", func(p peer, leave chan struct{}) {
			p.send(ws.NewTextFrame([]byte("hello")))
			p.expect(ws.OpText, "hello")
			close(leave)
			p.expectClose(1012)
		}},
		{"before the first message", func(p peer, leave chan struct{}) {
			close(leave)
			p.expectClose(1012)
		}},
		{"with messages on their way", func(p peer, leave chan struct{}) {
			close(leave)
			p.expectClose(1012)
			p.send(ws.NewTextFrame([]byte("lost")), ws.NewPingFrame(nil)) // sent before the Close was seen
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log, lines := newLog()
			f, called, leave := leaving()
			srv := httptest.NewUnstartedServer(New(Deps{Log: log, Leaving: f, RequestTimeout: time.Minute, Identify: true, PID: 7}))
			srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
				return context.WithValue(ctx, key{}, "of this connection")
			}
			srv.Start()
			defer srv.Close()
			p := open(t, srv)
			ctx := <-called
			require.Equal(t, "of this connection", ctx.Value(key{}))
			_, limited := ctx.Deadline()
			require.False(t, limited, "a WebSocket has no request timeout")
			tc.talk(p, leave)
			p.send(closeFrame(1012, ""))
			p.expectEOF()
			got := lines.next(t, "request")
			require.Nil(t, got["error"])
		})
	}

	// The rest needs to know that a part of a message was read before leave.
	for _, tc := range []struct {
		name string
		talk func(t *testing.T, p peer, leave chan struct{})
		took time.Duration
		err  error
	}{
		{"in a message, which is finished", func(t *testing.T, p peer, leave chan struct{}) {
			b := text("in two parts")
			p.sendRaw(b[:7])
			synctest.Wait()
			close(leave)
			synctest.Wait()
			time.Sleep(4 * time.Second)
			p.sendRaw(b[7:])
			p.expect(ws.OpText, "in two parts")
			p.expectClose(1012)
			p.send(closeFrame(1012, ""))
		}, 4 * time.Second, nil},
		{"in a header", func(t *testing.T, p peer, leave chan struct{}) {
			b := text("x")
			p.sendRaw(b[:1])
			synctest.Wait()
			close(leave)
			synctest.Wait()
			p.sendRaw(b[1:])
			p.expect(ws.OpText, "x")
			p.expectClose(1012)
			p.send(closeFrame(1012, ""))
		}, 0, nil},
		{"between fragments", func(t *testing.T, p peer, leave chan struct{}) {
			p.send(ws.NewFrame(ws.OpText, false, []byte("a")))
			synctest.Wait()
			close(leave)
			synctest.Wait()
			p.send(ws.NewFrame(ws.OpContinuation, true, []byte("b")))
			p.expect(ws.OpText, "ab")
			p.expectClose(1012)
			p.send(closeFrame(1012, ""))
		}, 0, nil},
		{"with messages read ahead", func(t *testing.T, p peer, leave chan struct{}) {
			p.sendRaw(bytes.Join([][]byte{text("1"), text("2"), text("3")}, nil))
			synctest.Wait() // the echo of 1 waits for its reader: net.Pipe has no buffer
			close(leave)
			synctest.Wait()
			p.expect(ws.OpText, "1")
			p.expect(ws.OpText, "2")
			p.expect(ws.OpText, "3")
			p.expectClose(1012)
			p.send(closeFrame(1012, ""))
		}, 0, nil},
		{"in a message that never ends", func(t *testing.T, p peer, leave chan struct{}) {
			p.sendRaw(text("never")[:8])
			synctest.Wait()
			close(leave)
			p.expectClose(1012)
		}, 10 * time.Second, errLeaveCut}, // closeWait for the message, and for the peer
		{"and the peer says nothing", func(t *testing.T, p peer, leave chan struct{}) {
			synctest.Wait()
			close(leave)
			p.expectClose(1012)
		}, 5 * time.Second, nil},
		{"and the peer does not read", func(t *testing.T, p peer, leave chan struct{}) {
			synctest.Wait()
			close(leave)
		}, socketWriteWait, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				leave, result := make(chan struct{}), make(chan error)
				rw := bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server))
				start := time.Now()
				go func() {
					err := echoing(newSocket(server, rw, socketMessageLimit, 5*time.Second), leave)
					_ = server.Close()
					result <- err
				}()
				tc.talk(t, peer{t, client, bufio.NewReader(client)}, leave)
				require.ErrorIs(t, <-result, tc.err)
				require.Equal(t, tc.took, time.Since(start))
			})
		})
	}
}

func echoing(s *socket, leave <-chan struct{}) error {
	return sockets{}.echo(s, leave, &echoState{})
}

// panicky is a connection whose read deadline does not do what it should, once.
type panicky struct {
	net.Conn
	once sync.Once
}

func (p *panicky) SetReadDeadline(t time.Time) error {
	p.once.Do(func() { panic("no deadline today") })
	return p.Conn.SetReadDeadline(t)
}

func TestWebSocketWatcherDoesNotKillTheProcess(t *testing.T) {
	server, client := net.Pipe()
	s := newSocket(&panicky{Conn: server}, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server)), socketMessageLimit, time.Second)
	logged := make(chan any, 1)
	s.logPanic = func(v any) { logged <- v }
	leave, result := make(chan struct{}), make(chan error)
	go func() { result <- echoing(s, leave) }()
	close(leave)
	require.Equal(t, "no deadline today", <-logged)
	require.NoError(t, client.Close())
	require.NoError(t, <-result)
}
