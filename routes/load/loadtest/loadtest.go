// Package loadtest is what the tests of the real thing have in common: programs that
// must be there, binaries of this module, and load that flows.
//
// # Promise
//
// A test that cannot run here says why and is skipped; with HOLDFAST_REQUIRE_TOOLS set it
// fails instead. Load ends with the test.
//
// # Limits
//
// It is for the tests of this module alone.
package loadtest

import (
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/routes/load"
)

const module = "github.com/holdfast-go/holdfast"

// Unavailable skips a test that cannot run here, or fails it where nothing may be
// missing.
func Unavailable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("HOLDFAST_REQUIRE_TOOLS") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Tool gives the path of a program that the test cannot do without. Debian keeps
// daemons where only root looks for programs.
func Tool(t testing.TB, name string) string {
	t.Helper()
	for _, file := range []string{name, filepath.Join("/usr/sbin", name)} {
		if found, err := exec.LookPath(file); err == nil {
			return found
		}
	}
	Unavailable(t, name+" is not installed")
	return ""
}

// Build compiles a main package of this module, "." or for example
// "testdata/releases/exits", into the file out, with further flags of go build.
func Build(t testing.TB, out, pkg string, flags ...string) {
	t.Helper()
	args := append([]string{"build", "-o", out}, flags...)
	b, err := exec.CommandContext(t.Context(), "go", append(args, path.Join(module, pkg))...).CombinedOutput()
	if err != nil {
		t.Fatalf("go build %s: %v: %s", pkg, err, b)
	}
}

// Start puts load on, until Stop or the end of the test.
func Start(t testing.TB, ws ...load.Workload) *load.Runner {
	t.Helper()
	r, err := load.New(ws...)
	if err != nil {
		t.Fatal(err)
	}
	r.Start(context.Background())
	t.Cleanup(func() { r.Stop() })
	return r
}

// Flowing waits until each workload has had n more answers: the load is on, and goes
// through whoever serves now. It also ends at a failure, of which the tally tells.
func Flowing(t testing.TB, r *load.Runner, n int64) {
	t.Helper()
	was := r.Snapshot().Workloads
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for !flowed(r, was, n) {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatal("the load does not flow")
		}
	}
}

func flowed(r *load.Runner, was map[string]load.Counts, n int64) bool {
	enough := true
	for name, c := range r.Snapshot().Workloads {
		if c.Failed() > 0 {
			return true
		}
		enough = enough && c.Answered >= was[name].Answered+n
	}
	return enough
}
