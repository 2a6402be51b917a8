//go:build !linux

package handoff

import (
	"io"
	"os"
)

func sendFile(*os.File, io.Reader) (int64, bool, error) { return 0, false, nil }
