package upgrade

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// preflight looks at the binary that an upgrade would execute, so that the
// reason for a failure is a sentence and nothing is started for it. What it
// cannot see, execve(2) finds.
func preflight() (string, error) {
	path, err := exec.LookPath(os.Args[0]) // as tableflip will
	if err != nil {
		var ee *exec.Error
		if errors.As(err, &ee) {
			err = ee.Err
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
			return "", fmt.Errorf("the binary %s is missing: put it in place and try again", os.Args[0])
		case errors.Is(err, fs.ErrPermission):
			return "", fmt.Errorf("the binary %s is not executable: chmod +x it and try again", os.Args[0])
		}
		return "", fmt.Errorf("the binary %s: %w", os.Args[0], err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("the binary %s: %w", path, err)
	}
	if !fi.Mode().IsRegular() {
		return "", fmt.Errorf("the binary %s is not a regular file", path)
	}
	if fi.Size() == 0 {
		return "", fmt.Errorf("the binary %s is empty: was the copy interrupted?", path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return "", fmt.Errorf("the binary %s is not executable for this user: %w", path, err)
	}
	return path, checkArchitecture(path)
}

// checkArchitecture compares an ELF binary with the running one. Other kinds of
// files, scripts for example, are left to execve(2).
func checkArchitecture(path string) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	theirs, err := elf.Open(path)
	if err != nil {
		return nil // not ELF
	}
	defer func() { _ = theirs.Close() }()
	ours, err := elf.Open("/proc/self/exe")
	if err != nil {
		return nil // nothing to compare with
	}
	defer func() { _ = ours.Close() }()
	if theirs.Machine != ours.Machine || theirs.Class != ours.Class {
		return fmt.Errorf("the binary %s is built for %s, this machine runs %s: build it with GOARCH=%s",
			path, theirs.Machine, ours.Machine, runtime.GOARCH)
	}
	return nil
}

// minFiles is what a service needs at the very least: its own descriptors and some
// connections.
const minFiles = 64

// checkFileLimit refuses to begin with a limit of open files that cannot carry a
// service. Go has already raised the soft limit to the hard one.
func checkFileLimit() error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("upgrade: read the limit of open files: %w", err)
	}
	if lim.Cur < minFiles {
		return fmt.Errorf("the limit of open files is %d: raise it to at least %d, better 65536 (LimitNOFILE= in the unit, or ulimit -n)", lim.Cur, minFiles)
	}
	return nil
}
