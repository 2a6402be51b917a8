package settings

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type cli struct {
	Serve struct {
		Server
		Config File
	} `cmd:""`
}

func parse(t *testing.T, args ...string) (*Server, error) {
	t.Helper()
	var c cli
	k, err := kong.New(&c, kong.DefaultEnvars("HOLDFAST"), kong.Writers(io.Discard, io.Discard))
	require.NoError(t, err)
	_, err = k.Parse(append([]string{"serve"}, args...))
	return &c.Serve.Server, err
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestPrecedence(t *testing.T) {
	s, err := parse(t)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, s.DrainTimeout, "default")
	require.Zero(t, s.Config().StopDelay, "default")

	path := file(t, "drain-timeout: 1s\nstop-delay: 4s\naddr: [':81', 'unix:/run/a,b']\nidentify: true\nbody-limit: 1KiB\nunix-mode: 0600\n")
	s, err = parse(t, "--config", path)
	require.NoError(t, err)
	require.Equal(t, time.Second, s.DrainTimeout, "file over default")
	require.Equal(t, []string{":81", "unix:/run/a,b"}, s.Addr)
	require.Equal(t, 4*time.Second, s.Config().StopDelay)
	require.True(t, s.Identify)
	require.EqualValues(t, 1024, s.BodyLimit)
	require.EqualValues(t, 0o600, s.UnixMode)

	t.Setenv("HOLDFAST_DRAIN_TIMEOUT", "2s")
	s, err = parse(t, "--config", path)
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, s.DrainTimeout, "environment over file")

	s, err = parse(t, "--config", path, "--drain-timeout", "3s")
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, s.DrainTimeout, "flag over environment")

	t.Setenv("HOLDFAST_CONFIG", path)
	s, err = parse(t)
	require.NoError(t, err)
	require.Equal(t, []string{":81", "unix:/run/a,b"}, s.Addr, "the file may be named in the environment")
}

func TestBadFiles(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"drain-timeout: 1s\nnonsense: 3\n", `c.yml:2: unknown setting "nonsense"`},
		{"config: other.yml\n", `c.yml:1: unknown setting "config"`},
		{"\n\ndrain-timeout: soon\n", "c.yml:3: drain-timeout: "},
		{"identify: maybe\n", "c.yml:1: identify: "},
		{"drain-timeout: 1s\ndrain-timeout: 2s\n", "drain-timeout"},
		{"drain-timeout:\n", "c.yml:1: drain-timeout: the value is missing"},
		{"drain-timeout: {a: b}\n", "c.yml:1: drain-timeout: want a value or a list"},
		{"- a\n", "c.yml:1: want a mapping"},
		{"rule:\n  - panics <= 0\n  - p95 < fast\n", "c.yml:3: rule: "},
		{"gate: telnet localhost\n", "c.yml:1: gate: "},
		{"drain-timeout: [1s, 2s]\n", "c.yml:1: drain-timeout: want one value"},
		{"a: [\n", "c.yml: "},
	} {
		_, err := parse(t, "--config", file(t, tc.text))
		require.ErrorContains(t, err, tc.want, tc.text)
		require.NotContains(t, err.Error(), "\n", "one line: %s", tc.text)
	}
	_, err := parse(t, "--config", "/nonexistent.yml")
	require.ErrorContains(t, err, "/nonexistent.yml")
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		_, err := parse(t, "--config", file(t, text))
		require.NoError(t, err, "%q", text)
	}
}

func TestBadSettings(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--addr", ":65536"}, "outside 0..65535"},
		{[]string{"--addr", "nonsense"}, "want HOST:PORT"},
		{[]string{"--addr", "unix:relative"}, "must be absolute"},
		{[]string{"--drain-timeout", "0s"}, "--drain-timeout=0s: want a positive duration"},
		{[]string{"--tls-cert", "c"}, "belong together"},
		{[]string{"--log-level", "loud"}, "--log-level=loud"},
		{[]string{"--log-format", "xml"}, "--log-format"},
		{[]string{"--unix-mode", "9"}, "want octal"},
		{[]string{"--body-limit", "1XB"}, "--body-limit"},
		{[]string{"--canary", "10s"}, "need a --rule"},
		{[]string{"--probation", "-1s", "--rule", "panics <= 0"}, "--probation"},
		{[]string{"--stop-delay=-1s"}, "--stop-delay=-1s"},
		{[]string{"--canary-share", "0.9"}, "at most 0.5"},
		{[]string{"--gate-in-a-row", "0"}, "want 1 or more"},
		{[]string{"--rule", "success > 99"}, "--rule"},
	} {
		_, err := parse(t, tc.args...)
		require.ErrorContains(t, err, tc.want, tc.args)
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--tls-cert", dir + "/c", "--tls-key", dir + "/k"}, "no such file"},
		{[]string{"--pid-file", dir + "/no/app.pid"}, "does not exist"},
		{[]string{"--pid-file", dir}, "not a regular file"},
		{[]string{"--log-file", dir + "/no/app.log"}, "does not exist"},
		{[]string{"--token-file", dir + "/token"}, "no such file"},
		{[]string{"--addr", "unix:" + dir + "/no/sock"}, "does not exist"},
	} {
		s, err := parse(t, tc.args...)
		require.NoError(t, err)
		require.ErrorContains(t, s.Check(), tc.want)
	}
	token := filepath.Join(dir, "t")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	s, err := parse(t, "--token-file", token, "--pid-file", dir+"/app.pid")
	require.NoError(t, err)
	require.NoError(t, s.Check())
	got, err := s.Token()
	require.NoError(t, err)
	require.Equal(t, "secret", got)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "check makes no file")
}

// TestTheReadmesConfiguration: what the README shows can be copied.
func TestTheReadmesConfiguration(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(b), "```yaml\n")
	text, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	s, err := parse(t, "--config", file(t, text))
	require.NoError(t, err)
	c := s.Config()
	require.Len(t, c.Gate, 2)
	require.Len(t, c.Rules, 5)
	require.Equal(t, 20*time.Second, c.Canary)
	require.Equal(t, time.Minute, c.Probation)
	require.InDelta(t, 0.1, c.CanaryShare, 1e-9)
	require.Equal(t, "p95 <= 1.5x old or 20ms over 10s min 50", c.Rules[1].String())
}
