//go:build unix

package handoff

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

func setReusePort(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
}

// limitSocketMode keeps others out from the first instant: on Linux the mode of
// the unbound socket limits that of the file which bind(2) makes
// (net/unix/af_unix.c: unix_bind). Elsewhere it has no effect, and the chmod
// that follows bind(2) does it.
func limitSocketMode(fd uintptr, mode fs.FileMode) error {
	if mode == 0 {
		return nil
	}
	_ = unix.Fchmod(int(fd), uint32(mode.Perm()))
	return nil
}
