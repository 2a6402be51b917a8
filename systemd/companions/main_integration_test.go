//go:build integration

// Package companions_test runs what ships here for other programs, with the real ones,
// in front of real processes under load.
package companions_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// buildDir holds the binary that the tests build.
var buildDir string

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
		os.Exit(code)
	}))
}
