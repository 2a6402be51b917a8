package handoff

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roleVar names, in the environment, what the test binary is to be instead.
const roleVar = "HANDOFF_TEST_ROLE"

// roles are the programs that tests start in processes of their own. Each is
// registered beside the test that uses it.
var roles = map[string]func(){}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		role()
		return
	}
	goleak.VerifyTestMain(m)
}
