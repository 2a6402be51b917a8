package handoff

import (
	"errors"

	"golang.org/x/sys/unix"
)

// backlog asks the kernel. For a socket that listens, TCP_INFO has the length of the
// accept queue in tcpi_unacked and its limit in tcpi_sacked (Linux since 2.6.24:
// net/ipv4/tcp.c, tcp_get_info).
func (l *Listener) backlog() (waiting, limit int, err error) {
	rc, err := l.inner.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var info *unix.TCPInfo
	var ierr error
	err = rc.Control(func(fd uintptr) { info, ierr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(err, ierr); err != nil {
		return 0, 0, err
	}
	return int(info.Unacked), int(info.Sacked), nil
}
