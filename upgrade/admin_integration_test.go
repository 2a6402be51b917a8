//go:build integration && linux

package upgrade_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// operator is a service with an admin listener, and who talks to it.
type operator struct {
	*load.Process
	t    *testing.T
	cmd  load.Command
	good string // binary; cmd.Binary is the file that a deploy replaces
}

func startOperator(t *testing.T, args ...string) *operator {
	t.Helper()
	o := &operator{t: t, good: build(t, ".")}
	dir, err := os.MkdirTemp("", "holdfast-admin-") // short: a socket's path is
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "holdfast")
	install(t, o.good, path)
	o.cmd = load.Serve(path, dir, "127.0.0.1:0")
	o.cmd.Args = append(o.cmd.Args, args...)
	o.Process = start(t, o.cmd)
	return o
}

func (o *operator) socket() string { return o.cmd.PIDFile + ".admin" }

// again starts the service anew, with another log.
func (o *operator) again() {
	o.t.Helper()
	o.cmd.Dir = o.t.TempDir()
	o.Process = start(o.t, o.cmd)
}

func (o *operator) client() *control.Client {
	return control.NewClient(handoff.Address{Network: "unix", Addr: o.socket()}, "")
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func (o *operator) status() report.Status {
	o.t.Helper()
	s, err := o.client().Status(within(o.t, 20*time.Second))
	require.NoError(o.t, err)
	return s
}

// run runs a command of the binary for this service.
func (o *operator) run(args ...string) (stdout, stderr string, err error) {
	o.t.Helper()
	cmd := exec.Command(o.good, append(args, "--pid-file", o.cmd.PIDFile)...)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	err = cmd.Run()
	return out.String(), msg.String(), err
}

// post asks for an upgrade as curl does, on a connection of its own.
func (o *operator) post(query string) (status int, out report.Outcome, err error) {
	c, err := net.Dial("unix", o.socket())
	if err != nil {
		return 0, out, err
	}
	defer func() { _ = c.Close() }()
	if _, err = io.WriteString(c, "POST /upgrade"+query+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, out, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, out, err
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode, out, json.NewDecoder(resp.Body).Decode(&out)
}

func TestI8_WhoeverAskedLearnsTheTruth(t *testing.T) {
	o := startOperator(t)
	first := o.status()
	require.Equal(t, "serving", first.State)
	require.Equal(t, 1, first.Generation)
	require.Nil(t, first.Upgrade)
	require.Nil(t, first.Predecessor)
	require.NotNil(t, first.Connections)

	status, good, err := o.post("")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, upgrade.Succeeded, good.Result)
	now := o.status()
	require.Equal(t, []int{first.PID, 1, now.PID, 2}, []int{good.From, good.FromGeneration, good.To, good.ToGeneration})
	require.Equal(t, now.Build, good.ToBuild)
	require.Equal(t, "admin", good.By)
	for _, ph := range []report.Phase{report.Spawn, report.Start, report.Takeover, report.Commit} {
		require.Contains(t, good.Durations, string(ph))
	}
	require.NotEmpty(t, good.Stderr, "its log up to the commit")

	install(t, build(t, "./testdata/releases/complains"), o.cmd.Binary)
	status, bad, err := o.post("")
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, upgrade.Failed, bad.Result)
	require.Equal(t, report.Start, bad.Phase)
	require.Contains(t, bad.Reason, "exit status 3")
	require.Len(t, bad.Stderr, 20)
	require.Equal(t, "step 11", bad.Stderr[0])
	require.Equal(t, "bad release: no key", bad.Stderr[19])
	require.Contains(t, bad.Durations, "start")
	b, err := os.ReadFile(o.LogPath())
	require.NoError(t, err)
	require.Contains(t, string(b), "step 1\nstep 2\n", "copied, in order")

	_, stderr, err := o.run("upgrade")
	var ee *exec.ExitError
	require.ErrorAs(t, err, &ee)
	require.Equal(t, 1, ee.ExitCode())
	require.Contains(t, stderr, "holdfast: the upgrade failed (phase start): ")
	require.Contains(t, stderr, "\n  bad release: no key\n")
	s, err := upgrade.ReadStatus(o.cmd.PIDFile)
	require.NoError(t, err)
	require.Equal(t, 3, s.Upgrade.Number)
	require.Empty(t, s.Upgrade.Stderr, "everyone may read that file")

	install(t, o.good, o.cmd.Binary)
	stdout, stderr, err := o.run("upgrade")
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, "upgrade 4 succeeded: pid ")
	gone(t, o.Process, first.PID)
	require.Eventually(t, func() bool { // the account comes when the old one has drained
		list, err := o.client().Reports(within(t, 10*time.Second))
		require.NoError(t, err)
		return len(list) == 4 && list[3].Connections != nil && list[0].Connections != nil && list[3].Durations["drain"] > 0
	}, 10*time.Second, 5*time.Millisecond)
	stdout, _, err = o.run("reports")
	require.NoError(t, err)
	require.Equal(t, 5, strings.Count(stdout, "\n"), stdout)
	require.Contains(t, stdout, "failed in start: ")
	stdout, _, err = o.run("status")
	require.NoError(t, err)
	require.Contains(t, stdout, "serving, generation 3, pid ")
	stop(t, o.Process)
	_, err = os.Stat(o.socket())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, stderr, err = o.run("upgrade")
	require.Error(t, err)
	require.Contains(t, stderr, "is the service running?")
	stdout, _, err = o.run("reports", "--json", "-n", "2")
	require.NoError(t, err, "from the file, without a service")
	require.Equal(t, 2, strings.Count(stdout, "\n"))
}

// TestI6_ABurst asks ten times at once. Each one hears of an upgrade that began after
// it had asked, and the newest binary runs in the end.
func TestI6_ABurst(t *testing.T) {
	o := startOperator(t)
	for round := range 5 {
		type reply struct {
			status int
			out    report.Outcome
			err    error
			asked  time.Time
		}
		replies := make([]reply, 10)
		var all sync.WaitGroup
		for i := range replies {
			all.Go(func() {
				r := &replies[i]
				r.asked = time.Now()
				r.status, r.out, r.err = o.post("")
			})
		}
		all.Wait()
		upgrades := map[int]int{}
		for _, r := range replies {
			require.NoError(t, r.err)
			require.Equal(t, http.StatusOK, r.status)
			require.Equal(t, upgrade.Succeeded, r.out.Result)
			require.True(t, r.out.Began.After(r.asked), "an upgrade that had begun before is not this one's")
			upgrades[r.out.Number]++
		}
		now := o.status()
		last := 0
		for n := range upgrades {
			last = max(last, n)
		}
		require.Equal(t, last, now.Upgrade.Number)
		require.Equal(t, now.PID, now.Upgrade.To)
		t.Logf("round %d: 10 requests, %d answered, by upgrades %v", round, len(replies), upgrades)
	}
	b, err := os.ReadFile(o.LogPath())
	require.NoError(t, err)
	require.NotContains(t, string(b), `"level":"error"`)
	stop(t, o.Process)
}

// Who forces does not wait for the drain of the generation before.
func TestForceDuringALongDrain(t *testing.T) {
	o := startOperator(t, "--force-drain", "500ms", "--drain-timeout", "50s", "--request-timeout", "0")
	slow := request(t, o.Process, "/slow?ms=60000")
	request(t, o.Process, "/slow?ms=0")
	logged(t, o.Process, `"path":"/slow"`)
	_, good, err := o.post("")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		p := o.status().Predecessor
		return p != nil && p.PID == good.From && p.Connections != nil && p.Connections.Requests == 1
	}, 10*time.Second, 5*time.Millisecond, "the drain is in the status")
	stdout, _, err := o.run("status")
	require.NoError(t, err)
	require.Contains(t, stdout, fmt.Sprintf("the previous generation drains: pid %d, 1 connections left with 1 requests", good.From))
	stdout, stderr, err := o.run("upgrade", "--no-wait")
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, "was asked for an upgrade")
	require.True(t, o.status().Queued)

	began := time.Now()
	stdout, stderr, err = o.run("upgrade", "--force")
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, "upgrade 2 succeeded")
	require.Less(t, time.Since(began), 20*time.Second)
	_, err = slow()
	require.Error(t, err, "it was cut")
	logged(t, o.Process, "drain cut: an upgrade was asked for")
	logged(t, o.Process, "request cut by the drain deadline")
	list, err := o.client().Reports(within(t, 10*time.Second))
	require.NoError(t, err)
	require.True(t, list[1].Forced)
	stop(t, o.Process)
}

func TestWatchThroughAnUpgrade(t *testing.T) {
	o := startOperator(t)
	cmd := exec.Command(o.good, "status", "--watch", "--pid-file", o.cmd.PIDFile)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	until := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the stream has ended without %q", text)
	}
	until("generation 1, pid ")
	_, good, err := o.post("")
	require.NoError(t, err)
	until("phase start")
	until("upgrade 1 succeeded")
	until(fmt.Sprintf("generation 2, pid %d: serving", good.To))
	gone(t, o.Process, good.From)
	stop(t, o.Process)
	until("stopping")
	for lines.Scan() {
	}
	var ee *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &ee)
	require.Equal(t, 1, ee.ExitCode(), "the service has stopped")
}

// The process that was asked is killed while its successor hangs.
func TestTheAskedProcessDies(t *testing.T) {
	o := startOperator(t)
	pid := o.status().PID
	install(t, build(t, "./testdata/releases/hangs"), o.cmd.Binary)
	var stderr string
	var err error
	var asking sync.WaitGroup
	asking.Go(func() { _, stderr, err = o.run("upgrade") })
	logged(t, o.Process, "upgrade begins")
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	asking.Wait()
	require.Error(t, err)
	require.Contains(t, stderr, fmt.Sprintf("pid %d, which was asked, has gone without an answer", pid))
	require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	o.Kill()

	// The next start finds what had become of it.
	install(t, o.good, o.cmd.Binary)
	o.again()
	list, err := o.client().Reports(within(t, 10*time.Second))
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "the service died during the upgrade", list[0].Reason)
	stop(t, o.Process)
}

func TestReportsOutliveTheService(t *testing.T) {
	o := startOperator(t)
	_, _, err := o.post("")
	require.NoError(t, err)
	stop(t, o.Process)
	o.again()
	_, second, err := o.post("")
	require.NoError(t, err)
	require.Equal(t, 2, second.Number, "the count goes on")
	stop(t, o.Process)

	// Damaged: set aside, said, and what can be read is kept.
	file := o.cmd.PIDFile + ".reports"
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, append(b, "\x00\x00{half"...), 0o600))
	o.again()
	logged(t, o.Process, "reports are damaged")
	aside, err := filepath.Glob(file + ".damaged-*")
	require.NoError(t, err)
	require.Len(t, aside, 1)
	_, third, err := o.post("")
	require.NoError(t, err)
	require.Equal(t, 3, third.Number)
	list, err := o.client().Reports(within(t, 10*time.Second))
	require.NoError(t, err)
	require.Len(t, list, 3)
	stop(t, o.Process)
}

func TestAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	disk := t.TempDir()
	require.NoError(t, syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=16k"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(disk, syscall.MNT_DETACH)) })
	err := os.WriteFile(filepath.Join(disk, "ballast"), make([]byte, 64<<10), 0o600)
	require.ErrorIs(t, err, syscall.ENOSPC)
	o := startOperator(t, "--state-dir", disk)
	for n := 1; n <= 2; n++ {
		status, out, err := o.post("")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, n, out.Number)
		logged(t, o.Process, "reports not written")
		list, err := o.client().Reports(within(t, 10*time.Second))
		require.NoError(t, err)
		require.NotEmpty(t, list, "in memory")
	}
	require.NoError(t, os.Remove(filepath.Join(disk, "ballast")))
	_, _, err = o.post("")
	require.NoError(t, err)
	list, err := report.Read(filepath.Join(disk, "server.pid.reports"))
	require.NoError(t, err)
	require.NotEmpty(t, list, "there is room again")
	stop(t, o.Process)
}

func TestAdminForOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("to be somebody else needs root")
	}
	setpriv, curl := loadtest.Tool(t, "setpriv"), loadtest.Tool(t, "curl")
	o := startOperator(t)
	// Even with every door open: the kernel says who knocks.
	require.NoError(t, os.Chmod(filepath.Dir(o.socket()), 0o755))
	require.NoError(t, os.Chmod(o.socket(), 0o666))
	for _, path := range []string{"status", "upgrade"} {
		args := []string{"--reuid", "65534", "--regid", "65534", "--clear-groups", curl, "-s", "-w", "%{http_code}", "--unix-socket", o.socket(), "http://x/" + path}
		if path == "upgrade" {
			args = append(args, "-X", "POST")
		}
		b, err := exec.Command(setpriv, args...).Output()
		require.NoError(t, err)
		require.Contains(t, string(b), `{"error":{"code":"forbidden","message":"this is for uid 0 and root, you are uid 65534"}}`)
		require.Contains(t, string(b), "\n403")
	}
	b, err := exec.Command(curl, "-s", "--unix-socket", o.socket(), "http://x/status").Output()
	require.NoError(t, err)
	require.Contains(t, string(b), `"generation":1`)
	stop(t, o.Process)
}

func TestAdminOverTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.NoError(t, ln.Close())
	a := handoff.Address{Network: "tcp", Addr: addr}
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	for name, tc := range map[string]struct {
		args []string
		code string
	}{
		"without a token file": {nil, "no_token"},
		"with one":             {[]string{"--token-file", token}, "token_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			o := startOperator(t, append(tc.args, "--admin", addr)...)
			_, err := os.Stat(o.socket())
			require.ErrorIs(t, err, os.ErrNotExist, "only what was asked for")
			ctx := within(t, 30*time.Second)
			_, err = control.NewClient(a, "").Status(ctx)
			require.NoError(t, err)
			_, err = control.NewClient(a, "").Upgrade(ctx, false)
			var refused *control.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, tc.code, refused.Code)
			if tc.args != nil {
				b, err := exec.Command(o.good, "upgrade", "--admin", addr, "--token-file", token).CombinedOutput()
				require.NoError(t, err, "%s", b)
				s, err := control.NewClient(a, "").Status(ctx)
				require.NoError(t, err)
				require.Equal(t, 2, s.Generation, "the listener was inherited")
			}
			stop(t, o.Process)
		})
	}
}

// TestI1_TheAdminSocketStays asks it all the time, through ten upgrades.
func TestI1_TheAdminSocketStays(t *testing.T) {
	o := startOperator(t)
	inode := func() uint64 {
		fi, err := os.Stat(o.socket())
		require.NoError(t, err)
		require.Equal(t, os.ModeSocket|0o600, fi.Mode())
		return fi.Sys().(*syscall.Stat_t).Ino
	}
	was := inode()
	ctx, cancel := context.WithCancel(context.Background())
	asked, lost := 0, []error{}
	var asking sync.WaitGroup
	asking.Go(func() {
		for ctx.Err() == nil {
			_, err := o.client().Status(within(t, 10*time.Second))
			asked++
			if err != nil {
				lost = append(lost, err)
			}
		}
	})
	for n := 1; n <= 10; n++ {
		status, out, err := o.post("")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, n, out.Number)
		require.Equal(t, was, inode(), "one file")
		// Whoever has the answer finds the new generation there.
		require.Equal(t, out.To, o.status().PID)
	}
	cancel()
	asking.Wait()
	require.NoError(t, errors.Join(lost...))
	t.Logf("GET /status: %d asked, %d answered, %d lost", asked, asked-len(lost), len(lost))
	stop(t, o.Process)
	left, err := filepath.Glob(o.cmd.PIDFile + "*")
	require.NoError(t, err)
	require.Equal(t, []string{o.cmd.PIDFile + ".reports"}, left)

	o = startOperator(t, "--admin", "none")
	_, err = os.Stat(o.socket())
	require.ErrorIs(t, err, os.ErrNotExist)
	stop(t, o.Process)
}
