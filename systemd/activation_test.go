package systemd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// taken is what a child process tells about the sockets that it was passed.
type taken struct {
	Addrs   map[string][]string
	Err     string
	Again   int      // what a second call found
	Left    []string // LISTEN_* afterwards
	Inherit int      // how many of the descriptors its own children would inherit
}

func init() {
	children["activation"] = func() error {
		out := taken{Addrs: map[string][]string{}}
		lns, err := Listeners()
		if err != nil {
			out.Err = err.Error()
		}
		for name, named := range lns {
			for _, ln := range named {
				out.Addrs[name] = append(out.Addrs[name], ln.Addr().String())
			}
		}
		again, err := Listeners()
		if err != nil {
			return err
		}
		out.Again = len(again)
		for _, kv := range os.Environ() {
			if strings.HasPrefix(kv, "LISTEN_") {
				out.Left = append(out.Left, kv)
			}
		}
		for _, named := range lns {
			for _, ln := range named {
				raw, err := ln.(syscall.Conn).SyscallConn()
				if err != nil {
					return err
				}
				if err := raw.Control(func(fd uintptr) {
					if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
						out.Inherit++
					}
				}); err != nil {
					return err
				}
				if err := ln.Close(); err != nil {
					return err
				}
			}
		}
		return json.NewEncoder(os.Stdout).Encode(out)
	}
}

// activate starts the child as systemd would: files from descriptor 3 on, and the
// environment. The shell knows the pid that it will have after exec.
func activate(t *testing.T, pid, names string, files ...*os.File) taken {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=`+pid+`; export LISTEN_PID; exec "$0"`, exe)
	cmd.Env = append(os.Environ(), childEnv+"=activation", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_PIDFDID=1",
		"GORACE=atexit_sleep_ms=0")
	if names != "" {
		cmd.Env = append(cmd.Env, "LISTEN_FDNAMES="+names)
	}
	cmd.ExtraFiles = files
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	var out taken
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &out), stdout.String())
	return out
}

// file gives the descriptor of a socket and its address.
func file(t *testing.T, s interface {
	File() (*os.File, error)
	Close() error
},
) *os.File {
	t.Helper()
	f, err := s.File()
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close(); _ = s.Close() })
	return f
}

func tcp(t *testing.T) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return file(t, ln.(*net.TCPListener)), ln.Addr().String()
}

func TestListeners(t *testing.T) {
	one, oneAddr := tcp(t)
	two, twoAddr := tcp(t)
	path := socketPath(t)
	ln, err := net.Listen("unix", path)
	require.NoError(t, err)
	admin := file(t, ln.(*net.UnixListener))

	got := activate(t, "$$", "http:admin:http", one, admin, two)
	require.Equal(t, taken{Addrs: map[string][]string{"http": {oneAddr, twoAddr}, "admin": {path}}}, got)
	require.FileExists(t, path, "the manager's file outlives the listener")

	t.Run("without names", func(t *testing.T) {
		got := activate(t, "$$", "", one)
		require.Equal(t, map[string][]string{"LISTEN_FD_3": {oneAddr}}, got.Addrs)
	})
	t.Run("for another process", func(t *testing.T) {
		got := activate(t, "1", "http", one)
		require.Empty(t, got.Addrs)
		require.Empty(t, got.Left)
	})
	t.Run("none", func(t *testing.T) {
		require.Equal(t, taken{Addrs: map[string][]string{}}, activate(t, "$$", ""))
	})
}

func TestUnusableSockets(t *testing.T) {
	good, _ := tcp(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	udp := file(t, pc.(*net.UDPConn))

	peer, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	c, err := net.Dial("tcp", peer.Addr().String())
	require.NoError(t, err)
	conn := file(t, c.(*net.TCPConn))

	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { _ = null.Close() })

	for _, tc := range []struct {
		name, want string
		file       *os.File
	}{
		{"datagram", "use ListenStream=", udp},
		{"connection", "use Accept=no", conn},
		{"no socket", "operation on non-socket", null},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := activate(t, "$$", "http:bad", good, tc.file)
			require.Contains(t, got.Err, tc.want)
			require.Contains(t, got.Err, `passed socket "bad"`)
			require.Empty(t, got.Addrs)
			require.Empty(t, got.Left)
		})
	}
}
