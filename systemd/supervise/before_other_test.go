//go:build !linux

package supervise

func before(string) {}
