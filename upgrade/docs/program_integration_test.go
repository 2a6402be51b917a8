//go:build integration

package docs

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestProgramsAreUpgraded builds each whole program that a document shows with
// package upgrade, runs it, upgrades it by SIGUSR2, and asks it before and after.
func TestProgramsAreUpgraded(t *testing.T) {
	ran := map[string]string{}
	for _, b := range blocks(t, "go") {
		if !strings.HasPrefix(b.text, "package main\n") || !strings.Contains(b.text, "upgrade.") {
			continue
		}
		if same := ran[b.text]; same != "" {
			t.Logf("%s is %s", b, same)
			continue
		}
		ran[b.text] = b.String()
		t.Run(strings.ReplaceAll(b.String(), "/", " "), func(t *testing.T) { upgraded(t, b) })
	}
	require.NotEmpty(t, ran)
}

func upgraded(t *testing.T, b block) {
	dir := scratch(t)
	socket, pidFile := filepath.Join(dir, "s"), filepath.Join(dir, "app.pid")
	text := strings.NewReplacer(`":8080"`, `"unix:`+socket+`"`, "/run/app", dir).Replace(b.text)
	require.Contains(t, text, socket, "%s: an address of another form than \":8080\"", b)
	require.Contains(t, text, pidFile, "%s: another PID file than /run/app/app.pid", b)
	file, paths := overlay(t, []string{text})
	binary := filepath.Join(dir, "app")
	out, err := exec.Command("go", "build", "-overlay", file, "-o", binary, paths[0]).CombinedOutput()
	require.NoError(t, err, "%s: %s", b, out)

	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(binary)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	require.NoError(t, log.Close())
	first := make(chan error, 1)
	go func() { first <- cmd.Wait() }()
	pid := cmd.Process.Pid
	t.Cleanup(func() { // however the test ends
		_ = cmd.Process.Kill()
		if now, err := upgrade.ReadPIDFile(pidFile); err == nil {
			_ = syscall.Kill(now, syscall.SIGKILL)
		}
	})
	require.Eventually(t, func() bool { is, err := upgrade.ReadPIDFile(pidFile); return err == nil && is == pid }, 20*time.Second, 5*time.Millisecond, "%s", b)
	before := get(t, socket)

	require.NoError(t, syscall.Kill(pid, syscall.SIGUSR2))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	o, err := upgrade.Wait(ctx, pidFile, pid)
	require.NoError(t, err)
	require.NotEqual(t, pid, o.To)
	require.Equal(t, before, get(t, socket))
	select {
	case err := <-first:
		require.NoError(t, err, "the first generation has drained")
	case <-ctx.Done():
		require.Fail(t, "the first generation does not end")
	}

	require.NoError(t, syscall.Kill(o.To, syscall.SIGTERM))
	require.Eventually(t, func() bool { _, err := os.Stat(pidFile); return os.IsNotExist(err) }, 20*time.Second, 5*time.Millisecond)
}

// get asks the program for its first page.
func get(t *testing.T, socket string) string {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("http://app/")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

// scratch is a directory with a short name: that of a socket has 107 bytes at most.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-docs-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// built builds a main package of this module into dir.
func built(t *testing.T, dir, pkg string) string {
	t.Helper()
	out := filepath.Join(dir, filepath.Base(pkg))
	if pkg == "." {
		out = filepath.Join(dir, "holdfast")
	}
	loadtest.Build(t, out, pkg)
	return out
}
