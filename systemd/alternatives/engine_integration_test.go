//go:build integration

package alternatives_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// engineEnv is set in the test that runs inside.
const engineEnv = "HOLDFAST_TEST_ENGINE"

// inside is where the test runs: mounts, processes and a network of its own. All that
// the engine keeps lies below /run and is gone with it. crun, which runs the containers,
// refuses to work beside a cgroup2 that is mounted below cgroup1; the containers have no
// cgroups here.
const inside = `
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs /run
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
"$@"
exit $?`

// engine is podman, which reads Dockerfiles and runs what comes out as Docker does, but
// needs no daemon.
type engine struct{ t *testing.T }

// enterEngine runs the calling test a second time, inside, and returns nil in the first
// run, which should return at once.
func enterEngine(t *testing.T) *engine {
	t.Helper()
	if os.Getenv(engineEnv) != "" {
		return &engine{t}
	}
	if why := noEngine(); why != "" {
		loadtest.Unavailable(t, "no containers: "+why)
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork",
		"--kill-child", "--mount-proc", "--", "bash", "-c", inside, "inside",
		self, "-test.run", "^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.timeout", "5m")
	// The second: for a health check podman wants to make a timer, of a systemd.
	cmd.Env = append(os.Environ(), engineEnv+"=1", "DISABLE_HC_SYSTEMD=true")
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	t.Logf("inside:\n%s", out.String())
	if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
		t.Fatalf("inside: %v", err)
	}
	return nil
}

func noEngine() string {
	if os.Getuid() != 0 {
		return "it needs root"
	}
	for _, tool := range []string{"podman", "crun", "unshare", "ip", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed (Debian: podman, crun, util-linux, iproute2)"
		}
	}
	return ""
}

// run runs podman and returns what it printed, standard error too.
func (e *engine) run(args ...string) (string, error) { return e.feed(nil, args...) }

func (e *engine) feed(stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // of use when the test ends, too
	defer cancel()
	cmd := exec.CommandContext(ctx, "podman", append([]string{
		"--root", "/run/storage", "--runroot", "/run/state", "--tmpdir", "/run/tmp",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// must is run that must succeed.
func (e *engine) must(args ...string) string {
	e.t.Helper()
	out, err := e.run(args...)
	require.NoError(e.t, err, "podman %s: %s", strings.Join(args, " "), out)
	return out
}

// build executes the Dockerfile. The image that it begins with is the official one for
// everybody else; here, without a network, it is the machine's own Go, with the machine's
// caches, so that no module is fetched twice.
func (e *engine) build(name, version string) {
	e.t.Helper()
	goroot := goEnv(e.t, "GOROOT")
	var base bytes.Buffer
	w := tar.NewWriter(&base)
	volumes := []string{"--volume", "/usr:/usr:ro", "--volume", goroot + ":" + goroot + ":ro"}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if target, err := os.Readlink("/" + dir); err == nil {
			require.NoError(e.t, w.WriteHeader(&tar.Header{Name: dir, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}))
		} else if _, err := os.Stat("/" + dir); err == nil {
			volumes = append(volumes, "--volume", "/"+dir+":/"+dir+":ro")
		}
	}
	require.NoError(e.t, w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}))
	require.NoError(e.t, w.Close())
	out, err := e.feed(base.Bytes(), "import", "-c", "ENV PATH="+goroot+"/bin:/usr/bin:/bin", "-c", "ENV GOTOOLCHAIN=local",
		"-c", "ENV GOPROXY=off", "-c", "ENV GOMODCACHE=/mod", "-c", "ENV GOCACHE=/cache", "-", readImage(e.t).from)
	require.NoError(e.t, err, out)
	out = e.must(append([]string{
		"build", "--format", "docker", "--isolation", "chroot", "--network", "host", "--pull=never",
		"--volume", goEnv(e.t, "GOMODCACHE") + ":/mod", "--volume", goEnv(e.t, "GOCACHE") + ":/cache",
		"--build-arg", "VERSION=" + version, "--tag", name, "--file", dockerfile, "--ignorefile", dockerfile + ".dockerignore", "../..",
	}, volumes...)...)
	e.t.Log(out)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// start runs the image as the Dockerfile advises, but for the network, which is the
// test's own.
func (e *engine) start(name, image string, options ...string) {
	e.t.Helper()
	// podman would raise these, which not even root may do everywhere.
	limit := func(name string, resource int) string {
		var l syscall.Rlimit
		require.NoError(e.t, syscall.Getrlimit(resource, &l))
		return fmt.Sprintf("%s=%d:%d", name, l.Max, l.Max)
	}
	args := append([]string{
		"run", "--detach", "--name", name, "--network", "host", "--cgroups", "disabled",
		"--ulimit", limit("nofile", syscall.RLIMIT_NOFILE), "--ulimit", limit("nproc", rlimitNPROC),
		"--cap-drop", "all", "--security-opt", "no-new-privileges", "--stop-timeout", "60",
		"--env", "HOLDFAST_IDENTIFY=true",
	}, options...)
	e.must(append(args, image)...)
	e.t.Cleanup(func() {
		if e.t.Failed() {
			log, _ := e.run("logs", "--tail", "50", name)
			e.t.Log(log)
			_, _ = e.run("rm", "--force", "--time", "0", name) // its port is the next one's
		}
	})
	require.Eventually(e.t, func() bool { return e.healthy(name) == nil }, 20*time.Second, 50*time.Millisecond, "never healthy")
}

// healthy is the image's health check.
func (e *engine) healthy(name string) error {
	_, err := e.run("healthcheck", "run", name)
	return err
}

// stop stops the container as its operator does, and wants it to end well.
func (e *engine) stop(name string) {
	e.t.Helper()
	e.must("stop", name)
	require.Equal(e.t, "exited 0", e.must("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name))
	e.must("rm", name)
}

// processes are those of the container, zombies too, by their pids out here.
func (e *engine) processes(name string) []int {
	e.t.Helper()
	first := e.must("inspect", "--format", "{{.State.Pid}}", name)
	space, err := os.Readlink("/proc/" + first + "/ns/pid")
	require.NoError(e.t, err)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	require.NoError(e.t, err)
	var pids []int
	for _, dir := range dirs {
		if its, err := os.Readlink(dir + "/ns/pid"); err != nil || its != space {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		require.NoError(e.t, err)
		pids = append(pids, pid)
	}
	return pids
}
