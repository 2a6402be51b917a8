package supervise

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleEnv makes this test binary a parent: it reaps all children of its process, so it
// needs one of its own. Its arguments are the PID file, the bound of a stop, and the
// command.
const roleEnv = "HOLDFAST_TEST_SUPERVISE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) != "" {
		os.Exit(asParent(os.Args[1:]))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if buildDir != "" {
			_ = os.RemoveAll(buildDir)
		}
		os.Exit(code)
	}))
}

// buildDir holds the binary that the integration tests build.
var buildDir string

// asParent does what main does.
func asParent(args []string) int {
	before(os.Getenv(roleEnv))
	_ = os.Unsetenv(roleEnv)
	timeout, err := time.ParseDuration(args[1])
	if err == nil {
		err = (&Command{PIDFile: args[0], StopTimeout: timeout, LogFormat: "json", LogLevel: "debug", Command: args[2:]}).Run()
	}
	var ended *ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &ended):
		fmt.Fprintln(os.Stderr, err)
		return 1
	case ended.Err != nil:
		fmt.Fprintln(os.Stderr, err)
	}
	return ended.Code
}
