package settings

import (
	"io"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

// TestArgs: what Args writes is read as what it was made of, for every setting.
func TestArgs(t *testing.T) {
	conf := file(t, "identify: false\n")
	given := []string{
		"--addr", ":81", "--addr", `unix:/run/a\,b`, "--pid-file", "/run/a.pid", "--admin", "none", "--state-dir=-x", "--force-drain", "2s",
		"--tls-cert", "c", "--tls-key", "k", "--drain-timeout", "1m30s", "--upgrade-timeout", "2m", "--handoff-timeout", "1ms",
		"--gate", `exec sh -c "echo , \"x\""`, "--gate", "http GET /readyz status=200..503 within=1s", "--gate", "tcp localhost:81",
		"--gate-in-a-row", "3", "--gate-timeout", "9s", "--canary", "1s", "--canary-share", "0.25", "--probation", "2s",
		"--rule", "success >= 99% over 10s min 50", "--rule", "p95 <= 1.5x old or 20ms", "--rule", "memory <= 2x old or 512MiB",
		"--strict-rules", "--warm-up-timeout", "4s", "--stop-linger", "0s", "--unix-mode", "600", "--reuse-port", "--request-timeout", "0",
		"--body-limit", "1536KiB", "--token-file", "t", "--identify=false", "--log-format", "json", "--log-level", "warn", "--log-file=", "--config", conf,
	}
	read := func(args []string) (c cli, again []string) {
		k, err := kong.New(&c, kong.Writers(io.Discard, io.Discard))
		require.NoError(t, err)
		ctx, err := k.Parse(append([]string{"serve"}, args...))
		require.NoError(t, err, args)
		for _, f := range ctx.Selected().Flags {
			again = append(again, Args(f)...)
		}
		return c, again
	}
	first, args := read(given)
	second, again := read(args)
	require.Equal(t, args, again)
	require.Equal(t, first, second)
	require.Contains(t, args, `unix:/run/a\,b`)
	require.Contains(t, args, "0600")
	require.Contains(t, args, "--state-dir=-x")
	require.Contains(t, args, "--log-file=")
	require.Contains(t, args, "--identify=false")
}
