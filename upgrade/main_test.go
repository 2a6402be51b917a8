package upgrade

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// buildDir holds the binaries that the integration tests build.
var buildDir string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
		os.Exit(code)
	}))
}
