package handoff

import (
	"bytes"
	"hash/crc32"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// file makes a descriptor with b in it that the test closes.
func file(t *testing.T, b []byte, seal int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	_, err = unix.Write(fd, b)
	require.NoError(t, err)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seal)
	require.NoError(t, err)
	return fd
}

func TestStateFromAPeerThatLies(t *testing.T) {
	links(t) // or skip
	body := []byte("0123456789")
	sum := crc32.Checksum(body, castagnoli)
	good := Message{Type: StateBlob, Name: "a", Version: 1, Size: int64(len(body)), Sum: sum}
	one := func(t *testing.T) []int { return []int{file(t, body, seals)} }
	huge := func(t *testing.T) []int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(fd) })
		require.NoError(t, unix.Ftruncate(fd, 1<<50)) // a hole: takes no memory
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
		require.NoError(t, err)
		return []int{fd}
	}
	pipe := func(t *testing.T) []int {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
		fd := -1
		rc, err := r.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, rc.Control(func(u uintptr) { fd = int(u) }))
		return []int{fd}
	}
	tests := []struct {
		name   string
		change func(*Message)
		files  func(*testing.T) []int
		want   string // in the error; empty: none, and it was loaded
	}{
		{"the truth", func(*Message) {}, one, ""},
		{"wrong checksum", func(m *Message) { m.Sum++ }, one, "damaged"},
		{"announces more", func(m *Message) { m.Size = 1 << 62 }, one, "announced"},
		{"announces less", func(m *Message) { m.Size = 1 }, one, "announced"},
		{"negative size", func(m *Message) { m.Size = -1 }, one, "announced"},
		{"no version", func(m *Message) { m.Version = 0 }, one, "version 0"},
		{"no descriptor", func(*Message) {}, func(*testing.T) []int { return nil }, "0 descriptors"},
		{"three descriptors", func(*Message) {}, func(t *testing.T) []int { return append(append(one(t), one(t)...), one(t)...) }, "3 descriptors"},
		{"a file of a petabyte", func(m *Message) { m.Size = 1 << 50 }, huge, "more than 67108864"},
		{"a file of a petabyte, said to be small", func(*Message) {}, huge, "more than 67108864"},
		{"a file that can change", func(*Message) {}, func(t *testing.T) []int { return []int{file(t, body, unix.F_SEAL_GROW)} }, "can still change"},
		{"a pipe on which nothing comes", func(*Message) {}, pipe, "F_GET_SEALS"},
		{"an unknown name", func(m *Message) { m.Name = "b" }, one, "ignored"},
		{"a rest without Add", func(m *Message) { m.Final = true }, one, "ignored"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := links(t)
			fds := tt.files(t)
			before := descriptors(t)
			c := newCell("a", 1, nil)
			s := states(t, c.State)
			m := good
			tt.change(&m)
			require.NoError(t, a.send(m, fds))
			got, err := b.Receive(time.Second)
			require.NoError(t, err)
			err = s.Receive(got)
			require.Equal(t, before, descriptors(t))
			switch tt.want {
			case "":
				require.NoError(t, err)
				require.Equal(t, body, c.value)
			case "ignored":
				require.NoError(t, err)
				require.Zero(t, c.loaded)
			default:
				require.ErrorContains(t, err, tt.want)
				require.Zero(t, c.loaded)
			}
		})
	}
	t.Run("the kernel installed none", func(t *testing.T) {
		m := good
		m.short = true
		require.ErrorContains(t, states(t, newCell("a", 1, nil).State).Receive(m), "limit of open files")
	})
	t.Run("an empty datagram with descriptors", func(t *testing.T) {
		a, b := links(t)
		fds := one(t)
		before := descriptors(t)
		rc, err := a.conn.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, rc.Write(func(fd uintptr) bool {
			require.NoError(t, unix.Sendmsg(int(fd), nil, unix.UnixRights(fds...), nil, 0))
			return true
		}))
		_, err = b.Receive(time.Second)
		require.Error(t, err)
		require.Equal(t, before, descriptors(t))
	})
}

// What is in a memfd after newMemfd stays as it is, for whoever holds it.
func TestMemfdIsSealed(t *testing.T) {
	fd, err := newMemfd("test", []byte("abc"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	_, err = unix.Pwrite(fd, []byte("x"), 0)
	require.ErrorIs(t, err, unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, 0), unix.EPERM)
	require.ErrorIs(t, unix.Ftruncate(fd, 9), unix.EPERM)
	b, err := readMemfd(fd, 3)
	require.NoError(t, err)
	require.Equal(t, "abc", string(b))
	_, err = readMemfd(fd, 2)
	require.ErrorContains(t, err, "more than 2")
}

// A service with a limit of file sizes is not killed by it.
func TestMemfdBelowTheLimitOfFileSizes(t *testing.T) {
	keepsDescriptors(t)
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &lim))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4, Max: lim.Max}))
	_, err := newMemfd("test", []byte("abcde"))
	fd, fits := newMemfd("test", []byte("abcd"))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &lim))
	require.ErrorIs(t, err, unix.EFBIG)
	require.NoError(t, fits)
	require.NoError(t, unix.Close(fd))
}

// Whatever a peer says and sends, only what is whole is loaded.
func FuzzStateReceive(f *testing.F) {
	f.Add([]byte(`{"type":"state","name":"a","version":1,"size":3,"sum":910901175}`), []byte("abc"))
	f.Add([]byte(`{"type":"state","name":"a","version":2,"final":true}`), []byte{})
	f.Fuzz(func(t *testing.T, text, body []byte) {
		m, err := decodeMessage(text)
		if err != nil {
			return
		}
		fd, err := newMemfd("fuzz", body)
		require.NoError(t, err)
		m.files = []int{fd}
		c := newCell("a", 1, nil)
		c.Rest, c.Add = c.Save, c.Load
		err = states(t, c.State).Receive(m)
		whole := m.Type == StateBlob && m.Name == "a" && m.Version == 1 && m.Size == int64(len(body)) && m.Sum == crc32.Checksum(body, castagnoli)
		require.Equal(t, whole, c.loaded == 1)
		if whole {
			require.NoError(t, err)
			require.True(t, bytes.Equal(body, c.value))
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.ErrorIs(t, err, unix.EBADF, "closed in any case")
	})
}

func BenchmarkState(b *testing.B) {
	body := make([]byte, 1<<20)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		fd, err := newMemfd("bench", body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readMemfd(fd, MaxState); err != nil {
			b.Fatal(err)
		}
		_ = unix.Close(fd)
	}
}
