package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// The processes below this one, from /proc.

// checkProc refuses a /proc of another PID namespace, whose numbers mean others.
func checkProc() error {
	self, err := os.Readlink("/proc/self")
	if err == nil && self != strconv.Itoa(os.Getpid()) {
		err = fmt.Errorf("it calls this process %s, which is %d", self, os.Getpid())
	}
	if err != nil {
		return fmt.Errorf("supervise: /proc is not that of this PID namespace: mount it (unshare --mount-proc): %w", err)
	}
	return nil
}

// parentOf returns the parent of a process, and whether that has not ended; a zombie
// has. There is no such process: 0.
//
// A zombie can have children: while its last threads end, those are still its own, and
// only then somebody else's.
func parentOf(pid int) (ppid int, lives bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// pid (comm) state ppid …, where comm may hold anything: proc_pid_stat(5).
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 2 {
		return 0, false
	}
	ppid, _ = strconv.Atoi(string(f[1]))
	return ppid, f[0][0] != 'Z' && f[0][0] != 'X'
}

// lineage is pid, its parent and so on, up to a child of this process; nil if pid is
// not a living descendant.
func lineage(pid int) []int {
	self := os.Getpid()
	// An ancestor may end and be reaped under our eyes; then its children are ours.
	for range 5 {
		if _, lives := parentOf(pid); !lives {
			return nil
		}
		var line []int
		for p := pid; p > 1 && p != self; {
			line = append(line, p)
			ppid, _ := parentOf(p)
			if ppid == self {
				return line
			}
			p = ppid
		}
	}
	return nil
}

// descendants lists the living processes below this one.
func descendants() []int {
	names, _ := os.ReadDir("/proc")
	children, lives := map[int][]int{}, map[int]bool{}
	for _, n := range names {
		if pid, err := strconv.Atoi(n.Name()); err == nil {
			ppid, alive := parentOf(pid)
			children[ppid] = append(children[ppid], pid)
			lives[pid] = alive
		}
	}
	var all []int
	for next := children[os.Getpid()]; len(next) > 0; {
		pid := next[0]
		if lives[pid] {
			all = append(all, pid)
		}
		next = append(next[1:], children[pid]...)
	}
	return all
}

// send signals a descendant; false if it has ended. The process is held by a pidfd
// before it is looked at: its number cannot come to mean another one in between.
func send(pid int, sig syscall.Signal) (bool, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false, err
	}
	defer func() { _ = p.Release() }()
	if lineage(pid) == nil {
		return false, nil
	}
	err = p.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		return false, nil
	}
	return err == nil, err
}
