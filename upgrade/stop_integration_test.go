//go:build integration

package upgrade_test

import (
	"bufio"
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

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/upgrade"
)

// request sends one request on a connection of its own and returns a function
// that reads the answer.
func request(t *testing.T, p *load.Process, path string) (answer func() (string, error)) {
	t.Helper()
	a := p.Addr("http")
	c, err := net.Dial(a.Network, a.Address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	return func() (string, error) {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
}

// logged waits for a line with this text in a server's log.
func logged(t *testing.T, p *load.Process, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(p.LogPath())
		return err == nil && strings.Contains(string(b), text)
	}, 20*time.Second, 5*time.Millisecond, text)
}

func TestStopFinishesWhatItHasBegun(t *testing.T) {
	cmd := load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0")
	p := start(t, cmd)
	slow := request(t, p, "/slow?ms=700")
	// Seen by the server before it is told to stop.
	request(t, p, "/slow?ms=0")
	logged(t, p, `"path":"/slow"`)
	pid := signal(t, cmd.PIDFile, syscall.SIGTERM)
	body, err := slow()
	require.NoError(t, err)
	require.Equal(t, "slow", body)
	gone(t, p, pid)
	stop(t, p) // and it exited with 0
	_, err = os.Stat(cmd.PIDFile)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	cmd := load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0")
	p := start(t, cmd)
	slow := request(t, p, "/slow?ms=60000")
	request(t, p, "/slow?ms=0")
	logged(t, p, `"path":"/slow"`)
	pid := signal(t, cmd.PIDFile, syscall.SIGINT)
	logged(t, p, "stop requested")
	require.NoError(t, syscall.Kill(pid, syscall.SIGINT))
	_, err := slow()
	require.Error(t, err)
	gone(t, p, pid)
	logged(t, p, "request cut by the drain deadline")
	logged(t, p, `"path":"/slow","age_ms"`)
}

func TestTheDrainDeadlineCutsAndSaysSo(t *testing.T) {
	cmd := load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--drain-timeout", "500ms")
	p := start(t, cmd)
	slow := request(t, p, "/slow?ms=60000")
	request(t, p, "/slow?ms=0")
	logged(t, p, `"path":"/slow"`)
	u := up(t, p)
	gone(t, p, u.OldPID)
	_, err := slow()
	require.Error(t, err)
	logged(t, p, "request cut by the drain deadline")
	stop(t, p)
}

// A stop during the drain reaches both generations; the old one hurries.
func TestStopDuringTheDrain(t *testing.T) {
	cmd := load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0")
	p := start(t, cmd)
	slow := request(t, p, "/slow?ms=1000")
	a := p.Addr("http")
	idle, err := net.Dial(a.Network, a.Address) // would keep the old one for half its drain timeout
	require.NoError(t, err)
	defer func() { _ = idle.Close() }()
	request(t, p, "/slow?ms=0")
	logged(t, p, `"path":"/slow"`)
	up(t, p)
	began := time.Now()
	stop(t, p) // waits for both
	body, err := slow()
	require.NoError(t, err)
	require.Equal(t, "slow", body)
	require.Less(t, time.Since(began), upgrade.DefaultDrainTimeout/2)
}

// The new generation dies while the old one drains: that one finishes what it has,
// and hurries, for only after its end can a service manager start the service anew.
func TestASuccessorThatDies(t *testing.T) {
	cmd := load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0")
	p := start(t, cmd)
	a := p.Addr("http")
	idle, err := net.Dial(a.Network, a.Address)
	require.NoError(t, err)
	defer func() { _ = idle.Close() }()
	slow := request(t, p, "/slow?ms=1500")
	request(t, p, "/slow?ms=0")
	logged(t, p, `"path":"/slow"`)
	u := up(t, p)
	logged(t, p, "upgrade committed: this generation drains") // before that, it would go on
	began := time.Now()
	require.NoError(t, syscall.Kill(u.PID, syscall.SIGKILL))
	body, err := slow()
	require.NoError(t, err)
	require.Equal(t, "slow", body)
	gone(t, p, u.OldPID)
	require.Less(t, time.Since(began), upgrade.DefaultDrainTimeout/2)
	logged(t, p, "the new generation is gone while this one drains")
}

func TestALiveServiceKeepsItsPIDFile(t *testing.T) {
	dir := t.TempDir()
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	p := start(t, cmd)
	u := up(t, p) // the lock is inherited
	gone(t, p, u.OldPID)
	b, err := exec.Command(cmd.Binary, cmd.Args...).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(b), "a live service (pid ")
	require.Equal(t, 1, strings.Count(string(b), "\n"), "one line: %s", b)
	pid, err := upgrade.ReadPIDFile(cmd.PIDFile)
	require.NoError(t, err)
	require.Equal(t, u.PID, pid)

	// After a crash the next start replaces what is left.
	p.Kill()
	cmd.Dir = t.TempDir() // another log
	again := start(t, cmd)
	require.NotEqual(t, u.PID, again.Version().PID)
	stop(t, again)
}

func TestLogFileIsReopened(t *testing.T) {
	dir := t.TempDir()
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Log = filepath.Join(dir, "app.log")
	cmd.Args = append(cmd.Args, "--log-file", cmd.Log)
	p := start(t, cmd)
	require.NoError(t, os.Rename(cmd.Log, cmd.Log+".1"))
	signal(t, cmd.PIDFile, syscall.SIGUSR1)
	logged(t, p, "log file reopened")
	_, err := request(t, p, "/version")()
	require.NoError(t, err)
	logged(t, p, `"path":"/version"`)
	stop(t, p)
}
