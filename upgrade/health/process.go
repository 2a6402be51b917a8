package health

import (
	"syscall"
	"time"
)

// cpuTime is the processor time that the process has used, user and system; 0 if the
// system does not say.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}
