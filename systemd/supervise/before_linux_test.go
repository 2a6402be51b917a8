package supervise

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// before puts this process into a state that its parent may have left it in, and
// executes it anew. Its patience is a test's.
func before(role string) {
	settle, restTimeout, killTimeout = time.Minute, time.Second, time.Second
	switch role {
	case "hasty":
		settle = 0
		return
	case "masked":
		runtime.LockOSThread() // the mask is that of the thread which executes
		var all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^all.Val[i]
		}
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "childless":
		signal.Ignore(syscall.SIGCHLD)
	case "nohup":
		signal.Ignore(syscall.SIGHUP, syscall.SIGINT)
	default:
		return
	}
	_ = os.Setenv(roleEnv, "yes")
	fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
	os.Exit(1)
}
