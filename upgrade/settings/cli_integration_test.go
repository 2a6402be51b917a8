//go:build integration

package settings

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
)

// TestCommandLine runs testdata/cli against the real binary. In the scripts, "exits
// CODE PATTERN PROGRAM" wants this exit code and one line on stderr that matches.
func TestCommandLine(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	bin := t.TempDir()
	// Others may run it: one script drops its privileges.
	for dir := bin; strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	build := exec.Command("go", "build", "-o", filepath.Join(bin, "holdfast"), ".")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = busy.Close() }) // the scripts run in parallel, after this function

	testscript.Run(t, testscript.Params{
		Dir:      filepath.Join(root, "testdata", "cli"),
		Deadline: time.Now().Add(time.Minute), // a server that starts after all must not hang the test
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			e.Setenv("HOLDFAST", filepath.Join(bin, "holdfast"))
			e.Setenv("BUSY", strconv.Itoa(busy.Addr().(*net.TCPAddr).Port))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: exits CODE PATTERN PROGRAM [ARG...]")
	}
	err := ts.Exec(args[2], args[3:]...)
	var ee *exec.ExitError
	if !errors.As(err, &ee) || strconv.Itoa(ee.ExitCode()) != args[0] {
		ts.Fatalf("want exit code %s, got %v", args[0], err)
	}
	text := ts.ReadFile("stderr")
	if strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "holdfast: ") {
		ts.Fatalf("want one line that begins with the program's name, got %q", text)
	}
	if !regexp.MustCompile(args[1]).MatchString(text) {
		ts.Fatalf("%q does not match %q", text, args[1])
	}
}
