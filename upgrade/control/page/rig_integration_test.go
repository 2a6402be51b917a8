//go:build integration && linux

package page_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// token is the service's bearer token.
const token = "kelp-and-rock-4711"

// service is a service on trial, under load, with an admin listener on loopback TCP.
type service struct {
	*load.Process
	t      *testing.T
	dir    string
	cmd    load.Command
	binary string // what a deploy replaces
	good   []byte // a release, of the build firstBuild
	admin  string // its address
	load   *load.Runner
}

const firstBuild = "2.3.0"

// build compiles a main package of this module.
func (s *service) build(pkg string) []byte {
	s.t.Helper()
	out := filepath.Join(s.dir, "built")
	loadtest.Build(s.t, out, pkg, "-ldflags", "-X main.build="+firstBuild)
	b, err := os.ReadFile(out)
	require.NoError(s.t, err)
	return b
}

func startService(t *testing.T, args ...string) *service {
	t.Helper()
	dir := t.TempDir()
	s := &service{t: t, dir: dir, binary: filepath.Join(dir, "holdfast")}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.admin = ln.Addr().String()
	require.NoError(t, ln.Close())
	secret := filepath.Join(dir, "token")
	require.NoError(t, os.WriteFile(secret, []byte(token+"\n"), 0o600))
	s.good = s.build(".")
	s.ship(firstBuild)
	s.cmd = load.Serve(s.binary, dir, "127.0.0.1:0")
	s.cmd.Args = append(s.cmd.Args, append([]string{"--admin", s.admin, "--token-file", secret}, args...)...)
	s.start()
	return s
}

// start starts the service, with a log of its own.
func (s *service) start() {
	s.t.Helper()
	s.cmd.Dir = s.t.TempDir()
	p, err := s.cmd.Start(context.Background())
	require.NoError(s.t, err)
	s.Process = p
	s.t.Cleanup(p.Kill) // does nothing after a Stop
}

// ship puts a good release where the service's binary is, with a name as long as
// that of the first: it is the same one, and another link would take seconds.
func (s *service) ship(build string) {
	s.t.Helper()
	s.put(bytes.ReplaceAll(s.good, []byte(firstBuild), []byte(build)))
}

func (s *service) put(b []byte) {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.binary+".new", b, 0o755))
	require.NoError(s.t, os.Rename(s.binary+".new", s.binary))
}

// busy puts the service under load.
func (s *service) busy() {
	s.t.Helper()
	addr := s.Addr("http")
	var err error
	s.load, err = load.New(
		load.Workload{Kind: load.Echo, Conns: 48, Pause: 80 * time.Millisecond, Addr: addr},
		load.Workload{Kind: load.Hello, Conns: 6, NewConn: true, Pause: 40 * time.Millisecond, Addr: addr},
		load.Workload{Kind: load.Slow, Conns: 3, Duration: 700 * time.Millisecond, Addr: addr},
		load.Workload{Kind: load.Stream, Conns: 2, Duration: 1500 * time.Millisecond, Addr: addr},
		load.Workload{Kind: load.WebSocket, Conns: 4, Pause: 100 * time.Millisecond, Addr: addr},
	)
	require.NoError(s.t, err)
	s.load.Start(context.Background())
	s.t.Cleanup(func() { s.load.Stop() })
}

// hold begins a request which ends only when it is released, and returns when it is
// being carried out: the server asks for its body.
func (s *service) hold() (release func()) {
	s.t.Helper()
	c, err := net.Dial("tcp", s.Addr("http").Address)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	require.NoError(s.t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = c.Write([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"))
	require.NoError(s.t, err)
	answers := bufio.NewReader(c)
	line, err := answers.ReadString('\n')
	require.NoError(s.t, err)
	require.Equal(s.t, "HTTP/1.1 100 Continue\r\n", line)
	_, err = answers.ReadString('\n')
	require.NoError(s.t, err)
	return func() {
		s.t.Helper()
		_, err := c.Write([]byte("held"))
		require.NoError(s.t, err)
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(s.t, err)
		require.NoError(s.t, resp.Body.Close())
		require.Equal(s.t, http.StatusOK, resp.StatusCode)
	}
}

// remembered is what a new page is told of the past: the generations that there are
// figures of, and the moments, without their time.
func (s *service) remembered() (pids []int, marks []report.Mark) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/events", http.NoBody)
	require.NoError(s.t, err)
	req.Header.Set("Accept", "text/event-stream")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for event := ""; event != "view" && lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "event":
			event = value
		case name == "data" && event == "begin":
			var b struct{ Seconds []report.Second }
			require.NoError(s.t, json.Unmarshal([]byte(value), &b))
			for _, second := range b.Seconds {
				pids = append(pids, second.PID)
			}
		case name == "data" && event == "mark":
			var m report.Mark
			require.NoError(s.t, json.Unmarshal([]byte(value), &m))
			m.ID = 0
			marks = append(marks, m)
		}
	}
	return pids, marks
}

// browser is a real one with one page, and all that went wrong in it.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu          sync.Mutex // guards what follows
	wrong       []string
	asked       []string // addresses of requests
	navigations int
}

// open starts Chromium without anything that it does by itself.
func open(t *testing.T) *browser {
	t.Helper()
	path := loadtest.Tool(t, "chromium")
	b := &browser{t: t}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(
		[]chromedp.ExecAllocatorOption{
			chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
			chromedp.UserDataDir(t.TempDir()),
		}, flags("disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-default-apps", "disable-extensions")...)...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser's end
		cancel()
		stop()
	})
	b.ctx = ctx
	require.NoError(t, chromedp.Listen(ctx, b.hear))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	b.did(chromedp.EmulateViewport(1180, 900))
	return b
}

func flags(names ...string) (o []chromedp.ExecAllocatorOption) {
	for _, n := range names {
		o = append(o, chromedp.Flag(n, true))
	}
	return o
}

// hear notes what a person would see in the developer tools.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *cdpage.EventFrameNavigated:
		b.navigations++
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.URL)
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			b.wrong = append(b.wrong, fmt.Sprintf("%s: status %d", e.Response.URL, e.Response.Status))
		}
	case *network.EventLoadingFailed:
		b.wrong = append(b.wrong, fmt.Sprintf("a request failed: %s %s", e.Type, e.ErrorText))
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.wrong = append(b.wrong, fmt.Sprintf("console: %v", e.Args))
		}
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, "exception: "+e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.wrong = append(b.wrong, "log: "+e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// did runs actions within a bound.
func (b *browser) did(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// gives runs an action that has a result, within the same bound.
func gives[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)
	return v
}

// says evaluates an expression in the page.
func says[T any](b *browser, expression string) T {
	b.t.Helper()
	return gives(b, chromedp.Evaluate[T](expression))
}

// until waits for an expression to come true in the page, which looks at each frame.
func (b *browser) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingMutation()))
	require.NoError(b.t, err, "%s; the page says: %s", expression, says[string](b, `document.body.innerText`))
}

// picture writes what is to be seen into the test's directory.
func (b *browser) picture(name string) {
	b.t.Helper()
	png := gives(b, chromedp.CaptureScreenshot())
	path := filepath.Join(b.t.ArtifactDir(), name+".png")
	require.NoError(b.t, os.WriteFile(path, png, 0o644))
	b.t.Logf("%s: %d bytes", path, len(png))
}

// full is a picture of the whole page.
func (b *browser) full(name string) {
	b.t.Helper()
	png := gives(b, chromedp.FullScreenshot(100))
	require.NoError(b.t, os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+".png"), png, 0o644))
}

// prefer emulates a person's setting.
func (b *browser) prefer(feature, value string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	})
	require.NoError(b.t, err)
}

// clean requires that nothing went wrong, and nothing came from elsewhere.
func (b *browser) clean(origin string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.wrong)
	require.Equal(b.t, 1, b.navigations, "opened once, never loaded again")
	for _, url := range b.asked {
		require.True(b.t, strings.HasPrefix(url, origin+"/"), url)
	}
}

// forgive takes out what was meant to go wrong.
func (b *browser) forgive(text string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.wrong)
	b.wrong = slices.DeleteFunc(b.wrong, func(w string) bool { return strings.Contains(w, text) })
	require.Less(b.t, len(b.wrong), before)
}

// focus goes to an element with the Tab key alone.
func (b *browser) focus(id string) {
	b.t.Helper()
	for range 5 {
		b.did(chromedp.KeyEvent(kb.Tab))
		if says[string](b, `document.activeElement.id`) == id {
			require.True(b.t, says[bool](b, `getComputedStyle(document.activeElement).outlineStyle !== 'none'`), "the focus is to be seen")
			return
		}
	}
	b.t.Fatalf("#%s is not reached with the Tab key", id)
}

// luminance is how light the page is, from 0 to 1, and how light its text.
func (b *browser) luminance() (ground, text float64) {
	const of = `(() => { const [r, g, b] = getComputedStyle(document.body).%s.match(/\d+/g).map((v) => {
		v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
		return 0.2126 * r + 0.7152 * g + 0.0722 * b; })()`
	return says[float64](b, fmt.Sprintf(of, "backgroundColor")), says[float64](b, fmt.Sprintf(of, "color"))
}

// dark looks at the page in both color schemes, and on a narrow screen.
func (b *browser) dark() {
	b.t.Helper()
	b.prefer("prefers-color-scheme", "light")
	ground, text := b.luminance()
	require.Greater(b.t, ground, 0.8)
	require.Greater(b.t, (ground+0.05)/(text+0.05), 7.0, "contrast, WCAG 2.2 section 1.4.6")
	b.prefer("prefers-color-scheme", "dark")
	ground, text = b.luminance()
	require.Less(b.t, ground, 0.05)
	require.Greater(b.t, (text+0.05)/(ground+0.05), 7.0)
	b.full("dark")
	b.did(chromedp.EmulateViewport(360, 800))
	require.LessOrEqual(b.t, says[int](b, `document.documentElement.scrollWidth`), 360, "nothing is wider than a narrow screen")
	b.full("narrow-dark")
	b.prefer("prefers-color-scheme", "light")
	b.full("narrow")
}
