package handoff

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sendFile copies from a regular file to a socket within the kernel (sendfile(2)).
// handled is false if r is nothing of the kind, and nothing has been read then.
func sendFile(to *os.File, r io.Reader) (n int64, handled bool, err error) {
	const chunk = 1 << 30
	left := int64(1) << 62
	limited, _ := r.(*io.LimitedReader)
	if limited != nil {
		left, r = limited.N, limited.R
	}
	from, ok := r.(*os.File)
	if !ok || left <= 0 {
		return 0, false, nil
	}
	if fi, err := from.Stat(); err != nil || !fi.Mode().IsRegular() {
		return 0, false, nil //nolint:nilerr // io.Copy will meet it
	}
	src, err := from.SyscallConn()
	if err != nil {
		return 0, false, nil //nolint:nilerr // as above
	}
	dst, err := to.SyscallConn()
	if err != nil {
		return 0, false, nil //nolint:nilerr // as above
	}
	var werr error
	cerr := src.Control(func(in uintptr) {
		for left > 0 {
			var sent int
			var serr error
			werr = dst.Write(func(out uintptr) bool {
				for {
					sent, serr = unix.Sendfile(int(out), int(in), nil, int(min(left, chunk)))
					if serr != unix.EINTR {
						return serr != unix.EAGAIN
					}
				}
			})
			if werr == nil {
				werr = os.NewSyscallError("sendfile", serr)
			}
			if sent > 0 {
				n += int64(sent)
				left -= int64(sent)
			}
			if werr != nil || sent <= 0 {
				return
			}
		}
	})
	if limited != nil {
		limited.N -= n
	}
	if cerr != nil {
		werr = cerr
	}
	return n, true, werr
}
