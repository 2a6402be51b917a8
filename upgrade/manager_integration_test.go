//go:build integration && linux

package upgrade_test

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// manager is the other end of $NOTIFY_SOCKET (sd_notify(3)). It answers barriers by
// closing the descriptor that they carry.
type manager struct {
	conn *net.UnixConn

	mu       sync.Mutex // guards what follows
	ready    func(pid int)
	messages []string
}

// serviceManager listens until the end of the test.
func serviceManager(t *testing.T) (*manager, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	m := &manager{conn: conn, ready: func(int) {}}
	done := make(chan struct{})
	go func() { defer close(done); m.run() }()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return m, path
}

// onReady is called for each READY=1 with a MAINPID, before anything that its sender
// says after it is answered.
func (m *manager) onReady(f func(pid int)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ready = f
}

// heard are the messages so far.
func (m *manager) heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.messages)
}

func (m *manager) run() {
	b, oob := make([]byte, 8192), make([]byte, 256)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.messages = append(m.messages, string(b[:n]))
		m.mu.Unlock()
		pid := 0
		fields := strings.Split(string(b[:n]), "\n")
		for _, f := range fields {
			_, _ = fmt.Sscanf(f, "MAINPID=%d", &pid)
		}
		if pid > 0 && slices.Contains(fields, "READY=1") {
			m.mu.Lock()
			ready := m.ready
			m.mu.Unlock()
			ready(pid)
		}
		msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range msgs {
			fds, _ := unix.ParseUnixRights(&msgs[i])
			for _, fd := range fds {
				_ = unix.Close(fd)
			}
		}
	}
}
