//go:build integration

package docs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// command is one command of a console block, with what the block shows below it.
type command struct {
	text   string
	output string
	asRoot bool // behind #, not $
}

// commands reads a block. A command begins behind "$ " or, where root is needed, "# ",
// and goes on behind a backslash at the end of a line.
func commands(text string) (all []command) {
	goesOn := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case goesOn:
			c := &all[len(all)-1]
			c.text = strings.TrimSuffix(c.text, `\`) + strings.TrimSpace(line)
			goesOn = strings.HasSuffix(c.text, `\`)
		case strings.HasPrefix(line, "$ "), strings.HasPrefix(line, "# "):
			all = append(all, command{text: line[2:], asRoot: line[0] == '#'})
			goesOn = strings.HasSuffix(line, `\`)
		case len(all) > 0:
			all[len(all)-1].output += line + "\n"
		}
	}
	return all
}

// fails tells whether the block shows that the command fails.
func (c command) fails() bool { return strings.HasPrefix(c.output, "holdfast: ") }

// machine is what commands do to a machine that a test must leave alone: they are
// looked at, for the program and the syntax of the shell, and not run.
var machine = []string{
	"apt-get", "chown", "cp", "install", "journalctl", "ln", "mkdir", "mv", "rm", "ssh", "scp", "sudo", "systemctl",
	"systemd-run", "useradd", "docker", "podman", "nginx", "haproxy", "logrotate", "promtool", "prometheus", "supervisorctl",
}

// stage is where the commands run: a directory with a service, and the document's paths
// in it.
type stage struct {
	t         *testing.T
	dir       string
	service   *load.Process
	good, bad string // binaries
	binary    string // the one that the service runs: good, or bad for a while
	paths     *strings.Replacer
}

func newStage(t *testing.T) *stage {
	dir := scratch(t)
	s := &stage{t: t, dir: dir, good: built(t, dir, "."), bad: built(t, dir, "./testdata/releases/exits"), binary: filepath.Join(dir, "current")}
	s.place(s.good)
	config := filepath.Join(dir, "config.yml")
	require.NoError(t, os.WriteFile(config, []byte("rule: [panics <= 0]\n"), 0o600))
	cmd := load.Serve(s.binary, dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--config", config)
	p, err := cmd.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	s.service = p
	s.paths = strings.NewReplacer(
		"/run/app/app.pid", cmd.PIDFile, "/run/holdfast/holdfast.pid", cmd.PIDFile, "/etc/holdfast/config.yml", config,
		"/run/app", dir, "127.0.0.1:8080", p.Addr("http").Address, "go run . ", "holdfast ",
	)
	return s
}

// TestCommandsRun carries out each command of each console block.
func TestCommandsRun(t *testing.T) {
	loadtest.Tool(t, "curl")
	s := newStage(t)
	ran := map[string]int{}
	for _, b := range blocks(t, "console") {
		all := commands(b.text)
		require.NotEmpty(t, all, "%s: no line begins with $ or #", b)
		for _, c := range all {
			how := s.carryOut(b, c)
			ran[how]++
			t.Logf("%s: %s: %s", b, how, c.text)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.service.Stop(ctx))
	t.Logf("%v", ran)
}

// carryOut does with a command what can be done with it, and says what that was.
func (s *stage) carryOut(b block, c command) string {
	words := strings.Fields(c.text)
	require.NotEmpty(s.t, words, "%s", b)
	name := words[0]
	switch {
	case strings.HasPrefix(c.text, "go test "):
		// Not a test in a test: CI runs it, to the letter but for -race.
		ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
		require.NoError(s.t, err)
		require.Contains(s.t, strings.Split(strings.ReplaceAll(string(ci), "-race ", ""), "\n"), c.text, "%s: .ci/run has no such line", b)
		return "CI runs it"
	case strings.HasSuffix(name, "/deploy.sh"):
		return s.deploy(b, words)
	case strings.HasPrefix(c.text, "go run . demo"):
		s.flags(b, words[3:])
		return "looked at" // it has tests of its own, and takes its time
	case strings.HasPrefix(c.text, "go build "):
		s.syntax(b, c)
		return "looked at"
	case slices.Contains(machine, name):
		s.syntax(b, c)
		return "looked at"
	case filepath.Base(name) == "holdfast" && c.asRoot, strings.HasPrefix(c.text, "holdfast supervise "):
		// It ends when its service does, and has tests of its own.
		own, service, _ := strings.Cut(c.text, " -- ")
		s.flags(b, strings.Fields(own)[1:])
		if _, args, ok := strings.Cut(service, " "); ok {
			s.flags(b, strings.Fields(args))
		}
		return "looked at"
	case name == "holdfast", name == "curl", name == "kill", strings.HasPrefix(c.text, "go run . "):
		s.run(b, c)
		return "run"
	}
	require.Fail(s.t, "nobody can check this command", "%s: %s\nTeach this test.", b, c.text)
	return ""
}

// wait is a time in a command, which is shortened.
var wait = regexp.MustCompile(`(--for|--verify-for)[ =]\S+`)

// run runs a command as it is, but for paths and times, and wants the exit code that
// the block shows. A block that shows a failed upgrade gets one.
func (s *stage) run(b block, c command) {
	s.t.Helper()
	if c.fails() && strings.Contains(c.output, "upgrade failed") {
		s.place(s.bad)
		defer s.place(s.good)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	text := wait.ReplaceAllString(s.paths.Replace(c.text), "$1 1s")
	if rest, ok := strings.CutPrefix(text, "curl "); ok {
		text = "curl --silent --show-error --fail-with-body " + rest // else an error is a success
	}
	watches := slices.Contains(strings.Fields(text), "--watch")
	if watches {
		text = "exec " + text // a signal is to reach it
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", text)
	cmd.Env = append(os.Environ(), "PATH="+s.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second // a child of the shell may hold the pipe
	out := &watched{}
	cmd.Stdout, cmd.Stderr = out, out
	if watches {
		// It goes on until its reader has had enough.
		out.first = func() { _ = cmd.Process.Signal(syscall.SIGINT) }
	}
	err := cmd.Run()
	var ee *exec.ExitError
	code := 0
	if errors.As(err, &ee) {
		code, err = ee.ExitCode(), nil
	}
	require.NoError(s.t, err, "%s: %s", b, c.text)
	want := 0
	if c.fails() {
		want = 1
	}
	require.Equal(s.t, want, code, "%s: %s\n%s", b, c.text, out.said.String())
}

// watched keeps what is written, and calls first after the first of it.
type watched struct {
	said  bytes.Buffer // not embedded: its ReadFrom would take the place of Write
	first func()
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.said.Write(b)
	if w.first != nil {
		w.first()
		w.first = nil
	}
	return n, err
}

// place puts a release in the service's place, as a deploy does.
func (s *stage) place(file string) {
	s.t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(s.binary+".new", b, 0o700))
	require.NoError(s.t, os.Rename(s.binary+".new", s.binary))
}

// option finds the options of a command.
var option = regexp.MustCompile(`^--[a-z][a-z0-9-]*`)

// flags wants the options of a command of holdfast to be in its help.
func (s *stage) flags(b block, words []string) {
	s.t.Helper()
	out, err := exec.Command(s.good, words[0], "--help").CombinedOutput()
	require.NoError(s.t, err, "%s: %s", b, out)
	s.known(b, words, string(out))
}

func (s *stage) known(b block, words []string, help string) {
	s.t.Helper()
	for _, w := range words {
		if o := option.FindString(w); o != "" && o != "--help" {
			require.Regexp(s.t, regexp.QuoteMeta(o)+`\b`, help, "%s", b)
		}
	}
}

// deploy looks for the options, and runs what changes nothing. systemd/ has the tests
// of the script itself.
func (s *stage) deploy(b block, words []string) string {
	s.t.Helper()
	script := filepath.Join(root, "systemd", "deploy.sh")
	help, err := exec.Command(script, "--help").CombinedOutput()
	require.NoError(s.t, err, "%s", help)
	s.known(b, words, string(help))
	if last := words[len(words)-1]; last != "./holdfast" || slices.Contains(words, "--sha256") {
		return "looked at"
	}
	args := []string{"--root", filepath.Join(s.dir, "opt"), "--check-args", "--addr 127.0.0.1:0", "--dry-run"}
	quoted := strings.Join(words[1:len(words)-1], " ")
	cmd := exec.Command("bash", "-c", `script=$1 binary=$2; shift 2; exec "$script" "$@" `+quoted+` "$binary"`, "bash", script, s.good)
	cmd.Args = append(cmd.Args, args...)
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "%s: %s\n%s", b, words, out)
	require.Contains(s.t, string(out), "nothing was changed")
	return "run, dry"
}

// syntax wants a command to be one for the shell, and nothing more.
func (s *stage) syntax(b block, c command) {
	s.t.Helper()
	out, err := exec.Command("bash", "-n", "-c", c.text).CombinedOutput()
	require.NoError(s.t, err, "%s: %s: %s", b, c.text, out)
}
