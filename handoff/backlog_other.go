//go:build !linux

package handoff

import "errors"

func (l *Listener) backlog() (waiting, limit int, err error) {
	return 0, 0, errors.ErrUnsupported
}
