//go:build !linux

package health

// residentMemory is not known here: getrusage has only the highest ever.
func residentMemory() uint64 { return 0 }
