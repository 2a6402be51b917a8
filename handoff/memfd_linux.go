package handoff

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// seals make the size and the content final, so that who reads can rely on what
// it has checked (fcntl(2), File Sealing).
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// newMemfd makes a file in memory that holds b and cannot be changed any more. The
// caller closes it.
func newMemfd(name string, b []byte) (_ int, err error) {
	// A write beyond the limit would end this process with SIGXFSZ (setrlimit(2)).
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err == nil && uint64(len(b)) > lim.Cur {
		return -1, fmt.Errorf("%d bytes, the limit of a file's size is %d (LimitFSIZE= in the unit): %w", len(b), lim.Cur, unix.EFBIG)
	}
	// Never executable, which some systems insist on (sysctl vm.memfd_noexec=2); Linux
	// before 6.3 does not know the flag (memfd_create(2)).
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return -1, os.NewSyscallError("write", err)
		}
		b = b[max(n, 0):]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals|unix.F_SEAL_SEAL); err != nil {
		return -1, os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return fd, nil
}

// readMemfd reads a sealed file in memory of at most limit bytes. The descriptor
// stays the caller's.
func readMemfd(fd int, limit int64) ([]byte, error) {
	// Only files in memory have seals: anything else, such as a pipe on which nothing
	// comes, is refused here.
	have, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_GET_SEALS", err)
	}
	if have&seals != seals {
		return nil, fmt.Errorf("came in a file that can still change: seals %#x", have)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Size > limit {
		return nil, fmt.Errorf("came with %d bytes, more than %d are not taken", st.Size, limit)
	}
	b := make([]byte, st.Size)
	for off := 0; off < len(b); {
		// At an offset, for the position is shared with who wrote it.
		n, err := unix.Pread(fd, b[off:], int64(off))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, os.NewSyscallError("pread", err)
		case n == 0:
			return nil, errors.New("ended early")
		}
		off += max(n, 0)
	}
	return b, nil
}
