//go:build integration && linux

package upgrade_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// lines reads a log of which every line must be whole.
func lines(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(b, []byte("\n")), "%s ends with half a line", path)
	for line := range bytes.Lines(b) {
		var e map[string]any
		require.NoError(t, json.Unmarshal(line, &e), "%s: %s", path, line)
		all = append(all, e)
	}
	return all
}

// TestEachLineSaysWhoWroteIt runs a service through a good upgrade and a bad one, and
// finds on each line who wrote it, and for each phase one line.
func TestEachLineSaysWhoWroteIt(t *testing.T) {
	dir := t.TempDir()
	path, good := filepath.Join(dir, "holdfast"), build(t, ".")
	install(t, good, path)
	cmd := load.Serve(path, dir, "127.0.0.1:0")
	cmd.Log = filepath.Join(dir, "app.log")
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, []byte("gate: [http GET /livez]\nprobation: 300ms\nrule: [panics <= 0]\n"), 0o600))
	cmd.Args = append(cmd.Args, "--log-file", cmd.Log, "--config", config)
	p := start(t, cmd)
	r := loadtest.Start(t,
		load.Workload{Kind: load.Echo, Conns: 4, Addr: p.Addr("http"), Pause: 5 * time.Millisecond},
		load.Workload{Kind: load.WebSocket, Conns: 2, Addr: p.Addr("http"), Pause: 5 * time.Millisecond},
	)
	loadtest.Flowing(t, r, 4)
	u := up(t, p)
	gone(t, p, u.OldPID)
	require.NoError(t, os.WriteFile(config, []byte("gate: [tcp 127.0.0.1:1]\ngate-timeout: 300ms\n"), 0o600))
	_, err := holdfastWait(t, good, cmd.PIDFile, signal(t, cmd.PIDFile, syscall.SIGUSR2))
	require.ErrorContains(t, err, "exit status 1")
	loadtest.Flowing(t, r, 4)
	require.NoError(t, r.Stop().Err())
	stop(t, p)

	byGeneration, count := map[float64]map[string]int{}, 0
	pids := map[any]float64{}
	for _, e := range lines(t, cmd.Log) {
		for _, key := range []string{"time", "level", "message", "pid", "build", "generation"} {
			require.NotEmpty(t, e[key], "%s of %v", key, e)
		}
		g := e["generation"].(float64)
		if e["message"] == "request" || e["message"] == "resumed request" {
			require.NotEmpty(t, e["request_id"], "%v", e)
			count++
		}
		if is, seen := pids[e["pid"]]; seen {
			require.Equal(t, is, g)
		}
		pids[e["pid"]] = g
		if byGeneration[g] == nil {
			byGeneration[g] = map[string]int{}
		}
		byGeneration[g][e["message"].(string)]++
	}
	require.Len(t, byGeneration, 3)
	for g, want := range map[float64][]string{
		1: {"started", "gate passed", "serving", "upgrade begins", "taken over", "upgrade committed: this generation drains", "drained", "exit"},
		2: {"started", "gate passed", "on trial", "verdict", "serving", "upgrade begins", "upgrade failed: this generation goes on", "stop requested", "drained", "exit"},
		3: {"started", "exit"},
	} {
		for _, message := range want {
			require.Equal(t, 1, byGeneration[g][message], "generation %v: %s", g, message)
		}
	}
	require.Zero(t, byGeneration[3]["serving"])
	t.Logf("%d lines of requests, %d generations", count, len(pids))
}

// TestTheLogIsRotatedUnderLoad moves the file away again and again, as logrotate does,
// while requests come, also while two generations write to it. Each request has its
// line, once and whole.
func TestTheLogIsRotatedUnderLoad(t *testing.T) {
	dir := t.TempDir()
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Log = filepath.Join(dir, "app.log")
	cmd.Args = append(cmd.Args, "--log-file", cmd.Log, "--drain-timeout", "10s")
	p := start(t, cmd)
	const requests = 4000
	r := loadtest.Start(t,
		load.Workload{Kind: load.Echo, Conns: 8, Addr: p.Addr("http"), MaxRequests: requests, Pause: 4 * time.Millisecond},
		load.Workload{Kind: load.Slow, Conns: 4, Addr: p.Addr("http"), Duration: 700 * time.Millisecond},
	)
	rotations, reopened := 0, 0
	rotate := func(writers int) {
		rotations++
		require.NoError(t, os.Rename(cmd.Log, fmt.Sprintf("%s.%d", cmd.Log, rotations)))
		signal(t, cmd.PIDFile, syscall.SIGUSR1)
		reopened += writers
		require.Eventually(t, func() bool {
			b, err := os.ReadFile(cmd.Log)
			return err == nil && bytes.Count(b, []byte(`"message":"log file reopened"`)) == writers
		}, 20*time.Second, 2*time.Millisecond, "%d processes open the file anew", writers)
	}
	loadtest.Flowing(t, r, 4)
	for range 3 {
		rotate(1)
		u := up(t, p) // slow requests keep the old one for a while
		rotate(2)
		rotate(2)
		gone(t, p, u.OldPID)
		rotate(1)
	}
	require.Eventually(t, func() bool { return r.Snapshot().Workloads["echo"].Sent == requests }, time.Minute, 10*time.Millisecond)
	tally := r.Stop()
	require.NoError(t, tally.Err())
	stop(t, p)

	ids, written, said := map[string]bool{}, int64(0), 0
	for i := range rotations + 1 {
		path := cmd.Log
		if i > 0 {
			path = fmt.Sprintf("%s.%d", cmd.Log, i)
		}
		for _, e := range lines(t, path) {
			switch {
			case e["message"] == "log file reopened":
				said++
			case e["message"] == "request" && (e["route"] == "/echo" || e["route"] == "/slow"):
				id := e["request_id"].(string)
				require.False(t, ids[id], "request %s has two lines", id)
				ids[id] = true
				written++
			}
		}
	}
	require.Equal(t, tally.Total().Sent, written, "a line for each request")
	require.Equal(t, reopened, said)
	t.Logf("%d requests and as many lines, in %d files, through 3 upgrades", written, rotations+1)
}

// TestNoSecretInTheLog sends a marked secret wherever one can stand, logs everything,
// and looks for it in all that the service writes.
func TestNoSecretInTheLog(t *testing.T) {
	const secret = "hunter2-never-to-be-seen"
	dir := t.TempDir()
	token, config := filepath.Join(dir, "token"), filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(token, []byte(secret+"-token\n"), 0o600))
	require.NoError(t, os.WriteFile(config, []byte("# "+secret+"\nlog-level: trace\nreuse-port: false\n"), 0o600))
	cert, key, _ := certificate(t, dir)
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, admin.Close())
	cmd.Args = append(cmd.Args, "--token-file", token, "--config", config,
		"--admin", admin.Addr().String(), "--admin", "unix:"+filepath.Join(dir, "a"))
	cmd.Env = []string{"APP_PASSWORD=" + secret}
	p := start(t, cmd)
	addr := p.Addr("http").Address

	client := &http.Client{Timeout: 300 * time.Millisecond} // event streams do not end
	defer client.CloseIdleConnections()
	ask := func(method, url, body string) {
		t.Helper()
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		require.NoError(t, err)
		for _, name := range []string{"Cookie", "X-Api-Key", "Referer", "Proxy-Authorization", "User-Agent", "X-Forwarded-For", "Content-Type"} {
			req.Header.Set(name, secret)
		}
		req.Header.Set("Authorization", "Bearer "+secret)
		resp, err := client.Do(req)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
	}
	everything := func() {
		for _, path := range []string{"/", "/slow", "/slow?ms=", "/stream?ms=", "/events?room=", "/chat?room=", "/ws", "/echo", "/upload", "/orders", "/livez", "/version", "/nothing", "/login"} {
			q := path
			if !strings.Contains(q, "=") {
				q += "?token="
			}
			for _, method := range []string{"GET", "POST", "DELETE"} {
				ask(method, "http://"+addr+q+secret, `{"password":"`+secret+`","item":["`+secret+`"]`)
			}
		}
		for _, path := range []string{"/status", "/upgrade?wait=", "/upgrade?force=", "/verify?for=", "/log-level?x=", "/nothing?x="} {
			for _, method := range []string{"GET", "POST", "PUT"} {
				ask(method, "http://"+admin.Addr().String()+path+secret, `{"level":"`+secret+`"}`)
			}
		}
		for _, message := range []string{ // what is no HTTP, and a WebSocket with a message
			"GET /" + " " + secret + " HTTP/9.9\r\n\r\n",
			secret + "\r\n\r\n",
			"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + secret + "\r\n\r\n",
			"GET /ws?t=" + secret + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: " + secret +
				"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + "\x81\x98\x00\x00\x00\x00" + secret,
			"GET /chat?room=a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + "\x81\x98\x00\x00\x00\x00" + secret + "\x82\x98\x00\x00\x00\x00" + secret,
		} {
			c, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			_, err = io.WriteString(c, message)
			require.NoError(t, err)
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = io.Copy(io.Discard, c)
			require.NoError(t, c.Close())
		}
	}
	everything()
	u := up(t, p)
	gone(t, p, u.OldPID)
	everything()
	// A configuration that is refused, with the key where the certificate should be.
	require.NoError(t, os.WriteFile(config, []byte("# "+secret+"\ntls-cert: "+key+"\ntls-key: "+cert+"\n"), 0o600))
	_, err = holdfastWait(t, cmd.Binary, cmd.PIDFile, signal(t, cmd.PIDFile, syscall.SIGUSR2))
	require.Error(t, err)
	stop(t, p)

	keyText, err := os.ReadFile(key)
	require.NoError(t, err)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	looked := 0
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if path == token || path == config || path == cert || path == key || !f.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		looked++
		for line := range strings.Lines(string(b)) {
			require.NotContains(t, line, secret, "%s", f.Name())
		}
		for line := range strings.Lines(string(keyText)) {
			require.NotContains(t, string(b), strings.TrimSpace(line), "%s", f.Name())
		}
	}
	requests := len(entries(t, p.LogPath(), "request"))
	require.Greater(t, requests, 80)
	t.Logf("%d requests in the log, %d files", requests, looked)
}

// TestTheLevelOfARunningService changes it by the command: it reaches the lines of
// requests at once, ends by itself, and is not the next generation's.
func TestTheLevelOfARunningService(t *testing.T) {
	dir := t.TempDir()
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--log-level", "warn")
	cmd.Addrs = map[string]load.Addr{"http": {Network: "unix", Address: filepath.Join(dir, "s")}}
	cmd.Args[len(cmd.Args)-3] = "unix:" + cmd.Addrs["http"].Address
	p := start(t, cmd)
	level := func(args ...string) string {
		t.Helper()
		b, err := exec.Command(cmd.Binary, append([]string{"log-level", "--pid-file", cmd.PIDFile}, args...)...).CombinedOutput()
		require.NoError(t, err, "%s", b)
		return strings.TrimSpace(string(b))
	}
	versions := func() int { return len(entries(t, p.LogPath(), "request")) }
	ask := func() {
		t.Helper()
		_, err := load.AskVersion(within(t, time.Minute), p.Addr("http"))
		require.NoError(t, err)
	}
	require.Equal(t, "log level warn", level())
	ask()
	require.Zero(t, versions())
	require.Equal(t, "log level info until the next generation, which begins with warn", level("info"))
	ask()
	require.Eventually(t, func() bool { return versions() == 1 }, 10*time.Second, 2*time.Millisecond)
	require.Contains(t, level("debug", "--for", "300ms"), ", then warn")
	logged(t, p, `"from":"debug","to":"warn","by":"its time is over"`)
	require.Equal(t, "log level warn", level())

	require.Contains(t, level("debug", "--for", "1h"), "log level debug until ")
	u := up(t, p)
	gone(t, p, u.OldPID)
	require.Equal(t, "log level warn", level(), "the next generation has its configuration")
	stop(t, p)
	require.Len(t, entries(t, p.LogPath(), "log level changed"), 4)
}

// TestTheFormatOfTheLog: JSON wherever standard error is no terminal, under systemd for
// example; for people on one, also where a desktop's shell has inherited what systemd
// tells its services.
func TestTheFormatOfTheLog(t *testing.T) {
	script := loadtest.Tool(t, "script")
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "app.pid")
	serve := func(cmd *exec.Cmd) string {
		t.Helper()
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "JOURNAL_STREAM=8:1", "INVOCATION_ID=0123456789abcdef0123456789abcdef", "NO_COLOR=")
		require.NoError(t, cmd.Start())
		stopped := false
		t.Cleanup(func() {
			if !stopped {
				_ = cmd.Process.Kill()
			}
		})
		require.Eventually(t, func() bool { _, err := os.Stat(pidFile); return err == nil }, 20*time.Second, 2*time.Millisecond)
		signal(t, pidFile, syscall.SIGTERM)
		require.NoError(t, cmd.Wait())
		stopped = true
		return out.String()
	}
	args := []string{"serve", "--addr", "unix:" + filepath.Join(dir, "s"), "--pid-file", pidFile}
	for line := range strings.Lines(serve(exec.Command(build(t, "."), args...))) {
		require.True(t, json.Valid([]byte(line)), line)
	}
	onTerminal := serve(exec.Command(script, "-qec", build(t, ".")+" "+strings.Join(args, " "), "/dev/null"))
	require.Contains(t, onTerminal, "serving")
	require.NotContains(t, onTerminal, `{"level"`)
	require.Contains(t, onTerminal, "\x1b[", "in color")
	plain := serve(exec.Command(build(t, "."), append(args, "--log-format", "console")...))
	require.Contains(t, plain, "INF serving")
	require.NotContains(t, plain, "\x1b[", "nobody asked for escapes in a file")
}
