package systemd

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// children are the roles that this test binary takes in a process of its own.
var children = map[string]func() error{}

const childEnv = "HOLDFAST_TEST_CHILD"

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childEnv)]; ok {
		if err := run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
