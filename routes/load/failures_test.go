package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A judge that cannot find fault proves nothing: each way to lose a request must be
// counted as that, and as nothing else.
func TestEachClassIsCounted(t *testing.T) {
	afterHead := func(c net.Conn, text string, linger bool) {
		a, ok := readAsked(bufio.NewReader(c))
		if !ok {
			return
		}
		_, _ = io.WriteString(c, strings.ReplaceAll(text, "{id}", a.id))
		if linger {
			_ = c.(*net.TCPConn).SetLinger(0) // close sends RST
		}
	}
	reply := func(text string) func(net.Conn) {
		return func(c net.Conn) { afterHead(c, text, false) }
	}
	const head = "HTTP/1.1 200 OK\r\nX-Request-Id: {id}\r\n"

	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		class Class
		says  string
	}{
		{"closes after the request", reply(""), EOF, "EOF"},
		{"closes at once", func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<10)) }, EOF, ""},
		{"resets after the request", func(c net.Conn) { afterHead(c, "", true) }, Reset, "reset"},
		{"resets in the body", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			time.Sleep(20 * time.Millisecond) // or the reset would overtake the answer
			_ = c.(*net.TCPConn).SetLinger(0)
		}, Truncated, "reset"},
		{"cuts the status line", reply("HTTP/1.1 2"), Truncated, "EOF"},
		{"cuts the head", reply(head), Truncated, "EOF"},
		{"cuts the body", reply(head + "Content-Length: 100\r\n\r\nhalf"), Truncated, "4 bytes so far"},
		{"cuts a chunk", reply(head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhal"), Truncated, ""},
		{"leaves out the last chunk", reply(head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), Truncated, "EOF"},
		{"never answers", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, Timeout, "timeout"},
		{"stops in the body", func(c net.Conn) {
			afterHead(c, head+"Content-Length: 100\r\n\r\nhalf", false)
			_, _ = io.Copy(io.Discard, c)
		}, Timeout, "timeout"},
		{"answers 503", each(func(a asked) string {
			return strings.Replace(right(a, ""), "200 OK", "503 Service Unavailable", 1)
		}), Status, "503"},
		{"changes the body", each(func(a asked) string { a.body = upper(a.body); return right(a, "") }), Corrupt, "differs"},
		{"answers another's id", each(func(a asked) string { a.id = "someone-else"; return right(a, "") }), Corrupt, "someone-else"},
		{"answers no id", each(func(a asked) string {
			return strings.Replace(right(a, ""), "X-Request-Id", "X-Other", 1)
		}), Corrupt, "X-Request-Id"},
		{"answers twice", each(func(a asked) string { return right(a, "") + right(a, "") }), Corrupt, "no one asked for"},
		{"adds a byte", each(func(a asked) string { return right(a, "") + "\n" }), Corrupt, "1 bytes"},
		{"gives no length", reply(head + "\r\nbody"), Corrupt, "no one length"},
		{"gives two lengths", each(func(a asked) string { return right(a, "Transfer-Encoding: chunked\r\n") }), Corrupt, "no one length"},
		{"gives a wrong chunk size", reply(head + "Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n"), Corrupt, "longer than it says"},
		{"gives a huge length", reply(head + "Content-Length: 999999999\r\n\r\n"), Corrupt, "at most"},
		{"ends lines with LF", reply("HTTP/1.1 200 OK\n\n"), Corrupt, "without CR"},
		{"speaks HTTP/1.0", reply("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), Corrupt, "HTTP/1.0"},
		{"speaks no HTTP", reply("220 mail.example ESMTP\r\n"), Corrupt, "220"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const requests = 3
			tally := run(t, Workload{
				Kind: Echo, Addr: scripted(t, test.serve), MaxRequests: requests, Timeout: 150 * time.Millisecond,
			})
			c := tally.Total()
			require.Equal(t, map[Class]int64{test.class: requests}, c.Failures, "%s", tally)
			require.Zero(t, c.Answered)
			require.Equal(t, int64(requests), c.Connects)
			require.Zero(t, c.Reconnects)
			require.ErrorIs(t, tally.Err(), ErrLost)
			require.ErrorContains(t, tally.Err(), "3 of 3 requests lost")
			require.Len(t, tally.Examples, requests)
			require.Contains(t, tally.Examples[0].Error, test.says)
			require.Equal(t, test.class.String(), tally.Examples[0].What)
			require.NotEmpty(t, tally.Examples[0].ID)
			require.Equal(t, []int64{0, 1, 2}, tally.Ranges[0].Failed)
		})
	}
}

func TestRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	for _, addr := range []Addr{
		{Network: "tcp", Address: ln.Addr().String()},
		{Network: "unix", Address: filepath.Join(t.TempDir(), "missing.sock")},
	} {
		tally := run(t, Workload{Kind: Hello, Addr: addr, NewConn: true, MaxRequests: 2})
		require.Equal(t, map[Class]int64{Refused: 2}, tally.Total().Failures, "%s", tally)
		require.Zero(t, tally.Total().Connects)
	}
}

// An answer that comes before the request is complete is shown, and no success.
func TestEarlyAnswerToAnUpload(t *testing.T) {
	addr := scripted(t, func(c net.Conn) {
		_, _ = bufio.NewReaderSize(c, 16).ReadString('\n')
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 8\r\n\r\ntoo much")
		_ = c.(*net.TCPConn).CloseWrite()
		time.Sleep(20 * time.Millisecond)
	})
	tally := run(t, Workload{Kind: Upload, Addr: addr, Bytes: 32 << 20, MaxRequests: 2, Timeout: time.Second})
	c := tally.Total()
	require.Equal(t, int64(2), c.Failed(), "%s", tally)
	// The kernel may throw the answer away with the reset; then it is a reset.
	require.Equal(t, int64(2), c.Failures[Status]+c.Failures[Reset], "%s", tally)
}

// One fault among many right answers is found, and named so that it can be looked up.
func TestOneInAThousand(t *testing.T) {
	n := 0
	addr := scripted(t, each(func(a asked) string {
		if n++; n == 613 {
			return ""
		}
		return right(a, "X-Pid: 77\r\nX-Generation: 3\r\n")
	}))
	tally := run(t, Workload{Kind: Echo, Addr: addr, MaxRequests: 1000})
	c := tally.Total()
	require.Equal(t, int64(999), c.Answered)
	require.Equal(t, map[Class]int64{EOF: 1}, c.Failures)
	require.Equal(t, map[int]int64{3: 999}, c.Generations)
	require.Equal(t, int64(2), c.Connects)
	require.Len(t, tally.Examples, 1)
	e := tally.Examples[0]
	require.True(t, e.Reused)
	require.Equal(t, 77, e.PID)
	require.Equal(t, 3, e.Generation)
	require.NotEmpty(t, e.Local)
	require.True(t, strings.HasSuffix(e.ID, "-0-612"), e.ID)
	require.Contains(t, fmt.Sprint(tally), e.ID)
}
