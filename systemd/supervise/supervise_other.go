//go:build !linux

package supervise

import (
	"errors"
	"time"

	"github.com/rs/zerolog"
)

func run(zerolog.Logger, string, time.Duration, []string) error {
	return errors.New("supervise needs Linux: elsewhere orphaned generations cannot be made its children (PR_SET_CHILD_SUBREAPER)")
}
