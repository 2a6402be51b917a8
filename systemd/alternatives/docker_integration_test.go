//go:build integration

package alternatives_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// rlimitNPROC is RLIMIT_NPROC, getrlimit(2), which package syscall does not name.
const rlimitNPROC = 6

var served = load.Addr{Network: "tcp", Address: "127.0.0.1:8080"}

// TestImage builds the image by the real Dockerfile, and runs it in a real container:
// upgraded under load, asked for its health, stopped.
func TestImage(t *testing.T) {
	e := enterEngine(t)
	if e == nil {
		return
	}
	e.build("holdfast", "1.0")
	t.Run("BinaryCopied", func(t *testing.T) { (&engine{t}).copied() })
	t.Run("ReadOnly", func(t *testing.T) {
		(&engine{t}).mounted("--tmpfs", "/run/holdfast:mode=1777")
	})
	t.Run("AsInKubernetes", func(t *testing.T) {
		// What an emptyDir looks like with an fsGroup, and a ConfigMap.
		run, etc := "/run/emptydir", "/run/configmap"
		require.NoError(t, os.Mkdir(run, 0o777))
		require.NoError(t, os.Chown(run, 0, 65532))
		require.NoError(t, os.Chmod(run, 0o777|os.ModeSetgid))
		require.NoError(t, os.Mkdir(etc, 0o755))
		c := parse(t, manifests(t))
		key, text := c.file()
		require.NoError(t, os.WriteFile(filepath.Join(etc, key), []byte(text), 0o644))
		options := []string{"--volume", run + ":/run/holdfast", "--volume", etc + ":/etc/holdfast:ro"}
		for _, v := range c.deployment.Spec.Template.Spec.Containers[0].Env {
			options = append(options, "--env", v.Name+"="+v.Value)
		}
		(&engine{t}).mounted(options...)
	})
}

// static builds a release like that in the image.
func static(t *testing.T, path, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.build="+version, "-o", path, ".")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// copied: releases are copied into the container and upgraded to, under load.
func (e *engine) copied() {
	t := e.t
	first, second := "/run/first", "/run/second"
	static(t, second, "2.0")
	e.start("copied", "holdfast")
	e.must("cp", "copied:/opt/holdfast/holdfast", first)
	serves(t, "1.0", 1)
	underLoad(t, func() {
		for i, release := range []string{second, first, second} {
			e.must("cp", release, "copied:/opt/holdfast/holdfast")
			t.Log(e.must("exec", "copied", "holdfast", "upgrade"))
			serves(t, []string{"2.0", "1.0", "2.0"}[i], i+2)
			require.NoError(t, e.healthy("copied"))
		}
	})
	require.Eventually(t, func() bool { return len(e.processes("copied")) == 2 }, 35*time.Second, 20*time.Millisecond,
		"supervise and one generation")

	// Where the binary lies the service may not write.
	out, err := e.run("exec", "copied", "holdfast", "serve", "--log-file", "/opt/holdfast/log")
	require.ErrorContains(t, err, "exit status 1")
	require.Contains(t, out, "permission denied")
	out, err = e.run("exec", "copied", "holdfast", "probe", "http /nothing")
	require.ErrorContains(t, err, "exit status 1")
	require.Contains(t, out, "status 404, want 200..399")

	e.hang("copied")
	e.stopInRequests("copied")
}

// mounted: nothing can be written but /run/holdfast, and the binary is on a volume.
func (e *engine) mounted(options ...string) {
	t := e.t
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	place := func(release string) {
		b, err := os.ReadFile(release)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), b, 0o755))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "holdfast")))
	}
	place("/run/first")
	e.start("mounted", "holdfast", append(options, "--read-only", "--read-only-tmpfs=false", "--volume", dir+":/opt/holdfast:ro")...)
	serves(t, "1.0", 1)
	underLoad(t, func() {
		place("/run/second")
		t.Log(e.must("exec", "mounted", "holdfast", "upgrade"))
		serves(t, "2.0", 2)
	})
	require.NoError(t, e.healthy("mounted"))
	e.stopInRequests("mounted")
}

// serves checks who answers.
func serves(t *testing.T, build string, generation int) {
	t.Helper()
	v, err := load.AskVersion(t.Context(), served)
	require.NoError(t, err)
	require.Equal(t, build, v.Build)
	require.Equal(t, generation, v.Generation)
}

// underLoad runs f under requests and wants every one of them answered, and none to
// have waited for a new connection.
func underLoad(t *testing.T, f func()) {
	t.Helper()
	r, err := load.New(
		load.Workload{Name: "kept connections", Kind: load.Echo, Addr: served, Conns: 16, Pause: 5 * time.Millisecond},
		load.Workload{Name: "new connections", Kind: load.Hello, Addr: served, Conns: 4, NewConn: true, Pause: 5 * time.Millisecond},
		load.Workload{Name: "slow", Kind: load.Slow, Addr: served, Conns: 4, Duration: 200 * time.Millisecond},
	)
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	f()
	tally := r.Stop()
	t.Log(tally)
	require.NoError(t, tally.Err())
	require.Zero(t, tally.Total().Reconnects)
}

// hang stops the service, not its parent: then the health check fails, in time.
func (e *engine) hang(name string) {
	e.t.Helper()
	pid := slices.Max(e.processes(name)) // the parent came first
	require.NoError(e.t, syscall.Kill(pid, syscall.SIGSTOP))
	out, err := e.run("healthcheck", "run", name)
	require.NoError(e.t, syscall.Kill(pid, syscall.SIGCONT))
	require.ErrorContains(e.t, err, "exit status 1")
	require.Contains(e.t, out, "unhealthy")
	require.NoError(e.t, e.healthy(name))
}

// stopInRequests stops the container while it is asked: what has begun is answered, and
// the container ends well.
func (e *engine) stopInRequests(name string) {
	t := e.t
	t.Helper()
	r, err := load.New(load.Workload{Kind: load.Slow, Addr: served, Conns: 4, Duration: time.Second, MaxRequests: 4})
	require.NoError(t, err)
	r.Start(context.Background())
	defer r.Stop()
	require.Eventually(t, func() bool {
		return strings.Contains(e.must("exec", name, "holdfast", "status"), "with 4 requests")
	}, 5*time.Second, 10*time.Millisecond)
	e.stop(name)
	tally := r.Wait()
	require.NoError(t, tally.Err())
	require.EqualValues(t, 4, tally.Total().Answered)
}
