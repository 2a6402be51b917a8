package handoff

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewLink makes the socketpair. The caller owns both ends: it keeps the link and
// passes the file to the child.
func NewLink() (*Link, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("handoff: make link: %w", err)
	}
	remote := os.NewFile(uintptr(fds[1]), "link")
	l, err := OpenLink(os.NewFile(uintptr(fds[0]), "link"))
	if err != nil {
		return nil, nil, errors.Join(err, remote.Close())
	}
	return l, remote, nil
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }
