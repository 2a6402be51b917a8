//go:build !linux

package upgrade

import (
	"errors"
	"os"
)

// The pipe is made with what Linux has: see stderr_linux.go. Elsewhere a new process
// writes to the standard error of the old one, and is not quoted.

func stderrPipe() (from, inherit *os.File, id string, err error) {
	return nil, nil, "", errors.ErrUnsupported
}

func readNow(*os.File, []byte) (int, error) { return 0, errors.ErrUnsupported }

// CaptureStderr does nothing here.
func CaptureStderr() {}

func restoreStderr(bool) {}
