package metrics

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// BuildDir is where integration tests keep what they have built; empty: nowhere yet.
var BuildDir string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if BuildDir != "" {
			_ = os.RemoveAll(BuildDir)
		}
		os.Exit(code)
	}))
}
