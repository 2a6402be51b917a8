package health

import (
	"os"
	"strconv"
	"strings"
)

// residentMemory is the resident set size in bytes; 0 if it cannot be read. The
// second field of /proc/self/statm, in pages; the kernel keeps it approximately,
// off by some pages to each thread (proc_pid_statm(5)).
func residentMemory() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}
