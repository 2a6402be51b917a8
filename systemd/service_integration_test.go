//go:build integration

package systemd_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// asked is a request on a connection of its own.
type asked struct {
	conn net.Conn
}

func ask(t *testing.T, path string) asked {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	return asked{conn: c}
}

func (a asked) answer() (string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// inFlight tells whether the kernel has delivered what was sent: the server has
// read it.
func inFlight(t *testing.T, a asked) func() bool {
	t.Helper()
	port := a.conn.LocalAddr().(*net.TCPAddr).Port
	return func() bool {
		b, err := os.ReadFile("/proc/net/tcp") // proc_pid_net(5): queues of each socket
		require.NoError(t, err)
		remote := strings.ToUpper(strconv.FormatInt(int64(port)+0x10000, 16)[1:])
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 4 && strings.HasSuffix(f[2], ":"+remote) && f[3] == "01" {
				return strings.HasSuffix(f[4], ":00000000")
			}
		}
		return false
	}
}
