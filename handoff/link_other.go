//go:build !linux

package handoff

import (
	"errors"
	"os"
)

// NewLink reports that there is no link on this system: darwin's Unix sockets
// have no SOCK_SEQPACKET. Upgrades go on without it.
func NewLink() (*Link, *os.File, error) {
	return nil, nil, errors.ErrUnsupported
}

func isReset(error) bool { return false }
