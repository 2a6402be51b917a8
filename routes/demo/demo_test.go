package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/routes/load"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role))
	}
	// os/signal starts its one goroutine for good.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// setUp makes the test binary the server, and gives the demonstration a temporary
// directory that can be looked into.
func setUp(t *testing.T, role string) (tmp string, opts Options) {
	t.Helper()
	tmp = t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv(childRole, role)
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	return tmp, Options{Upgrades: 2, Between: 100 * time.Millisecond, Binary: os.Args[0]}
}

func left(t *testing.T, tmp string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(tmp, "*"))
	require.NoError(t, err)
	return dirs
}

// requireGone checks that no process that the output names is alive.
func requireGone(t *testing.T, output string) {
	t.Helper()
	pids := regexp.MustCompile(`pid (\d+)`).FindAllStringSubmatch(output, -1)
	require.NotEmpty(t, pids)
	for _, m := range pids {
		stat, err := os.ReadFile("/proc/" + m[1] + "/stat")
		if err == nil {
			require.Contains(t, string(stat), ") Z ", "pid %s lives", m[1]) // waits for init
		}
	}
}

func TestRun(t *testing.T) {
	tmp, opts := setUp(t, "good")
	var out bytes.Buffer
	require.NoError(t, Run(t.Context(), &out, opts), "%s", &out)
	text := out.String()
	require.Regexp(t, `\n0 of [0-9,]+ requests lost through 2 upgrades\.\n$`, text)
	require.Contains(t, text, "upgrade 1 of 2: generation 2, pid ")
	require.Contains(t, text, "upgrade 2 of 2: generation 3, pid ")
	require.Regexp(t, `answered by generation: 1: \S+, 2: \S+, 3: \S+\n`, text)
	for _, name := range workloadOrder() {
		require.Regexp(t, regexp.QuoteMeta(name)+` +[1-9]`, text, "each kind was sent")
	}
	require.NotContains(t, text, "\x1b")
	require.NotContains(t, text, "%!")
	require.Empty(t, left(t, tmp), "temporary files")
	requireGone(t, text)
}

func TestRunReportsLoss(t *testing.T) {
	tmp, opts := setUp(t, "lossy")
	var out bytes.Buffer
	err := Run(t.Context(), &out, opts)
	require.ErrorIs(t, err, load.ErrLost)
	dirs := left(t, tmp)
	require.Len(t, dirs, 1)
	require.ErrorContains(t, err, "The server's log is kept in "+dirs[0])
	require.FileExists(t, filepath.Join(dirs[0], "server.log"))
	require.Regexp(t, `[1-9][0-9,]* of [0-9,]+ requests lost through 2 upgrades`, err.Error())
	require.Contains(t, err.Error(), "EOF before response", "an example")
	require.Regexp(t, `\nlost: EOF before response \d+\n`, out.String())
	requireGone(t, out.String())
}

func TestRunReportsAFailedUpgrade(t *testing.T) {
	tmp, opts := setUp(t, "broken")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := newWatched("upgrade 1 of 2 under way")
	done := make(chan error)
	go func() { done <- Run(ctx, out, opts) }()
	<-out.seen // it would wait for the upgrade's timeout
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Contains(t, out.String(), "Interrupted: 0 of ")
	require.Contains(t, out.String(), "through 0 upgrades.")
	require.Empty(t, left(t, tmp))
	requireGone(t, out.String())
}

func TestRunCannotStart(t *testing.T) {
	tmp, opts := setUp(t, "good")
	opts.Binary = filepath.Join(tmp, "missing")
	require.ErrorIs(t, Run(t.Context(), &bytes.Buffer{}, opts), os.ErrNotExist)
}

// Ctrl-C: nothing is left, and nothing was lost by it.
func TestRunInterrupted(t *testing.T) {
	tmp, opts := setUp(t, "good")
	opts.Between = time.Hour
	out := newWatched("under load")
	done := make(chan error)
	go func() { done <- Run(t.Context(), out, opts) }()
	<-out.seen
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "demo: interrupted")
	require.Contains(t, out.String(), "Interrupted: 0 of ")
	require.Empty(t, left(t, tmp))
	requireGone(t, out.String())
}

// watched is output that says when a text has come.
type watched struct {
	text string
	seen chan struct{}

	mu  sync.Mutex // guards what follows
	buf strings.Builder
	was bool
}

func newWatched(text string) *watched { return &watched{text: text, seen: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if !w.was && strings.Contains(w.buf.String(), w.text) {
		w.was = true
		close(w.seen)
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

func TestScreen(t *testing.T) {
	var b strings.Builder
	s := &screen{out: &b, terminal: true}
	s.line("first")
	s.refresh("50 %")
	s.refresh("60 %")
	s.line("second")
	s.refresh("70 %")
	s.clear()
	s.line("last")
	require.Equal(t, "first\n50 %"+clearLine+"60 %"+clearLine+"second\n70 %"+clearLine+"last\n", b.String())

	b.Reset()
	s = newScreen(&b)
	s.refresh("50 %")
	s.clear()
	s.line("last")
	require.Equal(t, "50 %\nlast\n", b.String())
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 51234: "51,234", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		require.Equal(t, want, grouped(n))
	}
	for d, want := range map[time.Duration]string{
		0: "-", 345 * time.Microsecond: "0.3 ms", 9900 * time.Microsecond: "9.9 ms", 12 * time.Millisecond: "12 ms",
		1540 * time.Millisecond: "1.5 s", time.Minute: "60 s",
	} {
		require.Equal(t, want, short(d))
	}
	require.Equal(t, "1 of 1,000 requests lost through 1 upgrade",
		verdict(load.Counts{Sent: 1000, Failures: map[load.Class]int64{load.Reset: 1}}, 1))
	require.Equal(t, "12 ms to 1.5 s", span([]time.Duration{1500 * time.Millisecond, 12 * time.Millisecond}))
	require.Equal(t, "12 ms", span([]time.Duration{12 * time.Millisecond}))
	require.NotContains(t, fmt.Sprint(span(nil)), "%!")
}
