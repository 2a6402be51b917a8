//go:build integration

package upgrade_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade"
)

// BenchmarkUpgrade measures the time from the signal until the PID file names a
// new generation, which both kinds of service write when it serves: holdfast beside
// a service as tableflip's documentation has it.
//
//	go test -tags integration -run - -bench Upgrade -count 10 ./upgrade | benchstat -col /service -
func BenchmarkUpgrade(b *testing.B) {
	for _, s := range []struct {
		name, pkg string
		args      []string
	}{
		{"tableflip", "./testdata/peers/tableflip", nil},
		{"holdfast", ".", []string{"serve"}},
	} {
		b.Run("service="+s.name, func(b *testing.B) {
			binary, pidFile := build(b, s.pkg), filepath.Join(b.TempDir(), "pid")
			unheard := 0
			for b.Loop() {
				// A first generation each time: tableflip refuses an upgrade for a moment
				// after the previous one, with no way to see when that has passed. It may
				// also refuse just after the start, or die of the signal; then once more.
				for {
					b.StopTimer()
					cmd := exec.Command(binary, append(s.args, "--addr", "127.0.0.1:0", "--pid-file", pidFile)...)
					require.NoError(b, cmd.Start())
					old := next(pidFile, 0)
					b.StartTimer()

					_ = syscall.Kill(old, syscall.SIGUSR2)
					pid := next(pidFile, old)

					b.StopTimer()
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
					if pid != 0 {
						_ = syscall.Kill(pid, syscall.SIGKILL)
					}
					matches, _ := filepath.Glob(pidFile + "*")
					for _, m := range matches {
						require.NoError(b, os.Remove(m))
					}
					b.StartTimer()
					if pid != 0 {
						break
					}
					unheard++
				}
			}
			b.ReportMetric(float64(unheard), "unheard")
		})
	}
}

// next waits until the PID file names another process; 0 if it does not.
func next(pidFile string, old int) int {
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if pid, err := upgrade.ReadPIDFile(pidFile); err == nil && pid != old {
			return pid
		}
		time.Sleep(100 * time.Microsecond)
	}
	return 0
}
