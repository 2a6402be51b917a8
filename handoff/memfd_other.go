//go:build !linux

package handoff

import "errors"

// Without memfd_create there are no blobs; there is no link to send them on
// either: see NewLink.

func newMemfd(string, []byte) (int, error) { return -1, errors.ErrUnsupported }

func readMemfd(int, int64) ([]byte, error) { return nil, errors.ErrUnsupported }
