package supervise

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A command that is no Holdfast service has a plain parent.
func TestPlainCommand(t *testing.T) {
	for _, tc := range []struct {
		name, role, script string
		code               int
		signals            []syscall.Signal // sent once it says "ready"
	}{
		{"ends well", "yes", "exit 0", 0, nil},
		{"ends badly", "yes", "exit 3", 3, nil},
		{"killed", "yes", "kill -KILL $$", 137, nil},
		{"TERM", "yes", "echo ready; idle", 143, []syscall.Signal{syscall.SIGTERM}},
		{"INT", "yes", "trap 'exit 5' INT; echo ready; idle", 5, []syscall.Signal{syscall.SIGINT}},
		{"QUIT", "yes", "trap 'exit 6' QUIT; echo ready; idle", 6, []syscall.Signal{syscall.SIGQUIT}},
		{"TERM twice", "yes", "trap 'trap \"exit 7\" TERM; echo once' TERM; echo ready; idle", 7, []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}},
		{"ignored", "yes", "trap 'exit 8' TERM; echo ready; idle", 8, []syscall.Signal{syscall.SIGURG, syscall.SIGPIPE, syscall.SIGCHLD, syscall.SIGTERM}},
		{"USR1, when it has had time", "hasty", "trap 'exit 9' USR1; echo ready; idle", 9, []syscall.Signal{syscall.SIGUSR1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := supervised(t, tc.role, tc.script, time.Minute)
			for i, sig := range tc.signals {
				p.says("ready")
				if i > 0 && sig == tc.signals[i-1] {
					p.says("once")
				}
				p.signal(sig)
			}
			p.exits(tc.code)
		})
	}
}

func TestACommandThatCannotBeStarted(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text"), []byte("text"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "alien"), []byte("\x7fELF no program"), 0o700))
	for _, tc := range []struct {
		command, says string
		code          int
	}{
		{"no-such-program", "not found", 127},
		{filepath.Join(dir, "none"), "no such file", 127},
		{filepath.Join(dir, "text"), "permission denied", 126},
		{filepath.Join(dir, "alien"), "exec format error", 126},
		{dir, "permission denied", 126},
	} {
		p := &parent{t: t, dir: dir, pidFile: filepath.Join(dir, "pid"), log: filepath.Join(dir, "log")}
		p.start("yes", time.Minute, []string{tc.command})
		p.exits(tc.code)
		require.Equal(t, 1, strings.Count(p.text(), "\n"), "one line: %s", p.text())
		require.Contains(t, p.text(), tc.says)
	}
}

// follows is two generations: the second one is the first one's child, names itself,
// and the first one exits in the same moment.
const follows = `
case "$1" in
second)
	trap 'echo second got TERM; exit 11' TERM
	trap 'echo second got INT; exit 12' INT
	trap 'echo second got USR2' USR2
	trap 'echo second got HUP' HUP
	trap 'echo second got USR1' USR1
	name $$; idle ;;
*)
	trap 'echo first got USR2; "$0" second & until_there renamed; exit 3' USR2
	trap 'echo first got TERM; exit 4' TERM
	name $$; idle ;;
esac
`

// TestI5_FollowsThePIDFile: the end of a generation is not the service's while the PID
// file names another one; signals go to that one; and its exit code counts.
func TestI5_FollowsThePIDFile(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", follows, time.Minute)
	first := p.number("pid")
	p.signal(syscall.SIGUSR2)
	p.until(func() bool { return p.number("pid") != first }, "the second one serves")
	second := p.number("pid")
	p.signal(syscall.SIGUSR1) // while the first one drains: not to that
	p.says("second got USR1")
	p.touch("renamed")
	p.says("following the next generation")
	p.gone(first)
	for _, sig := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGHUP} {
		p.signal(sig)
	}
	p.says("second got USR2")
	p.says("second got HUP")
	p.signal(syscall.SIGTERM)
	p.exits(11)
	p.gone(second)
	require.NotContains(t, p.text(), "first got TERM")
}

// A stop reaches the old generation that drains as well as the current one, once. The
// one that ends well takes the PID file with it.
func TestAStopReachesAllGenerations(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
case "$1" in
second) trap 'echo second got TERM; rm "$P"; exit 11' TERM; name $$; idle ;;
*) trap 'echo first got TERM' TERM; "$0" second & until_there done; exit 0 ;;
esac`, time.Minute)
	second := p.number("pid")
	p.signal(syscall.SIGTERM)
	p.says("second got TERM")
	p.says("first got TERM")
	time.Sleep(3 * lookEvery) // it looks again, and tells nobody twice
	p.touch("done")
	p.exits(0)
	p.gone(second)
	require.Equal(t, 1, strings.Count(p.text(), "first got TERM"))
	require.Equal(t, 1, strings.Count(p.text(), "second got TERM"))
}

// A generation has finished and removed the PID file; the stop kills it on its way out.
// It has ended well all the same; one that has not finished has not.
func TestAStopMeetsAGenerationOnItsWayOut(t *testing.T) {
	for script, code := range map[string]int{`echo ready; until_there told; rm "$P"; echo removed; sleep 60`: 0, `echo ready; sleep 60`: 143} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			p := supervised(t, "yes", "trap : USR1; name $$\n"+script, time.Minute)
			p.says("ready")
			p.signal(syscall.SIGUSR1) // so that supervise has seen the PID file
			p.says("passed on")
			p.touch("told")
			if code == 0 {
				p.says("removed")
			}
			p.signal(syscall.SIGTERM)
			p.exits(code)
		})
	}
}

// TestTheLastGenerationDiesUnseen: it is the child of one that drains, which ends well.
func TestTheLastGenerationDiesUnseen(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
case "$1" in
second) name $$; kill -KILL $$ ;;
*) "$0" second; exit 0 ;;
esac`, time.Minute)
	p.exits(1)
	p.says("the last generation has died")
}

// What another run has left in the PID file is not believed, whoever has that number.
func TestAStalePIDFile(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	for name, text := range map[string]string{
		"a stranger": strconv.Itoa(stranger.Process.Pid), "init": "1", "no number": "x", "zero": "0", "negative": "-1", "empty": "", "nobody": "4194304",
	} {
		t.Run(name, func(t *testing.T) {
			for _, written := range []string{"before", "by the command"} {
				script := "trap 'exit 4' TERM; echo ready; idle"
				if written != "before" {
					script = "name '" + text + "'\n" + script
				}
				dir := t.TempDir()
				p := &parent{t: t, dir: dir, pidFile: filepath.Join(dir, "pid"), log: filepath.Join(dir, "log")}
				require.NoError(t, os.WriteFile(p.pidFile, []byte(text+"\n"), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "script"), []byte(words+script), 0o755))
				p.start("yes", time.Minute, []string{filepath.Join(dir, "script")})
				p.says("ready")
				p.signal(syscall.SIGTERM)
				p.exits(4)
			}
		})
	}
	require.NoError(t, stranger.Process.Signal(syscall.Signal(0)), "it was left alone")
}

// The file names a descendant, but it was written before that existed.
func TestAStalePIDFileWithARecycledPID(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	require.NoError(t, os.WriteFile(path, []byte("7\n"), 0o600))
	f := openPIDFile(path)
	require.Zero(t, f.names())
	require.NoError(t, os.WriteFile(path+".new", []byte("7\n"), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
	require.Equal(t, 7, f.names(), "written anew")
	require.NoError(t, os.Remove(path))
	require.Zero(t, f.names())
	require.Nil(t, lineage(1), "not ours")
	require.Nil(t, lineage(os.Getppid()))
}

// A generation dies while its successor starts: that one has the lock, and serves soon.
func TestASuccessorThatIsNotNamedYet(t *testing.T) {
	for _, tc := range []struct {
		name, second string
		code         int
	}{
		{"comes to serve", `until_there dead; name $$; sleep 0.2; exit 12`, 12},
		{"serves for a moment", `until_there dead; name $$; exit 12`, 12},
		{"fails", `until_there dead; exit 13`, 137},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := supervised(t, "yes", `
case "$1" in
second) `+tc.second+` ;;
*)
	exec 9>"$P.lock"; flock -x 9
	name $$; "$0" second & kill -KILL $$ ;;
esac`, time.Minute)
			p.says("waiting until the PID file names it")
			p.touch("dead")
			p.exits(tc.code)
		})
	}
}

// A signal that would kill a command which has no handlers yet waits for them.
func TestSignalsWaitForAService(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
echo starting; until_there sent
trap 'echo got HUP' HUP; trap 'echo got USR2; exit 9' USR2
name $$; idle`, time.Minute)
	p.says("starting")
	p.signal(syscall.SIGHUP)
	p.touch("sent")
	p.says("got HUP")
	p.signal(syscall.SIGUSR2)
	p.exits(9)
}

// TestI9_NothingIsLeft: orphans are reaped while the service runs, and ended with it.
func TestI9_NothingIsLeft(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
trap 'exit 0' TERM
setsid sh -c 'echo $$ >brief; exit 3' &
( setsid sh -c 'sh -c "echo \$\$ >daemon; exec sleep 60" &' & )
name $$; echo ready; idle`, time.Minute)
	p.says("ready")
	brief, daemon := p.number("brief"), p.number("daemon")
	p.until(func() bool { _, err := os.Stat("/proc/" + strconv.Itoa(daemon)); return err == nil }, "the daemon runs")
	p.until(func() bool { ppid, ok := parentOf(daemon); return ok && ppid == p.cmd.Process.Pid }, "it is ours")
	p.signal(syscall.SIGTERM)
	p.exits(0)
	p.gone(brief)
	p.gone(daemon)
	require.Contains(t, p.text(), "ending what is left")
}

// What does not end in time is killed, with all that it has started.
func TestAStopIsBounded(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
trap '' TERM
setsid sh -c 'trap "" TERM; echo $$ >daemon; while :; do sleep 60; done' &
name $$; echo ready; while :; do sleep 60; done`, 500*time.Millisecond)
	p.says("ready")
	daemon := p.number("daemon")
	began := time.Now()
	p.signal(syscall.SIGTERM)
	p.exits(137)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Contains(t, p.text(), "not ended in time: killed")
	p.gone(daemon)
	p.gone(p.number("pid"))
}

// What the service leaves behind has its own, shorter bound.
func TestWhatIsLeftIsKilled(t *testing.T) {
	t.Parallel()
	p := supervised(t, "yes", `
setsid sh -c 'trap "" TERM; echo $$ >daemon; while :; do sleep 60; done' &
until_there daemon; exit 4`, time.Minute)
	p.exits(4)
	p.gone(p.number("daemon"))
}

// States of a process that its own parent has left it in.
func TestInheritedSignals(t *testing.T) {
	t.Parallel()
	t.Run("all blocked", func(t *testing.T) {
		p := supervised(t, "masked", "sh -c 'exit 3'; test $? = 3 || exit 1; echo ready; idle", time.Second)
		p.says("ready")
		p.signal(syscall.SIGTERM)
		p.exits(143)
	})
	t.Run("SIGCHLD ignored", func(t *testing.T) {
		p := supervised(t, "childless", "exit 5", time.Minute)
		p.exits(5)
	})
	t.Run("nohup", func(t *testing.T) {
		p := supervised(t, "nohup", "trap 'exit 6' TERM; name $$; echo ready; idle", time.Minute)
		p.says("ready")
		p.signal(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
		p.exits(6)
		require.Equal(t, 1, strings.Count(p.text(), "stop requested"))
		require.NotContains(t, p.text(), "passed on")
	})
}

// The reader of the log has gone. The service has not.
func TestAClosedLog(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	p := supervised(t, "yes", "trap 'exit 5' TERM; name $$; idle", time.Minute, func(c *exec.Cmd) { c.Stderr = w })
	require.NoError(t, w.Close())
	p.number("pid")
	p.signal(syscall.SIGTERM)
	p.exits(5)
}
