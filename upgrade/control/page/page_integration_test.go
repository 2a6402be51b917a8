//go:build integration && linux

package page_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// watch notes each phase that the page shows as the one that runs, each sentence that
// it has read out, and that the page is still the one which was opened.
const watch = `(() => {
	window.opened = true;
	window.phases = []; window.sentences = [];
	const look = () => {
		const now = document.querySelector('#steps [data-state="now"]')?.dataset.phase;
		if (now && window.phases.at(-1) !== now) window.phases.push(now);
		const say = document.getElementById('say').textContent;
		if (window.sentences.at(-1) !== say) window.sentences.push(say);
	};
	new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
	return true;
})()`

const (
	title = `document.getElementById('title').textContent`
	say   = `document.getElementById('say').textContent`
	live  = `document.getElementById('link').dataset.state === 'live'`
)

// TestThePageShowsAnUpgrade opens the page once, in a real Chromium, and shows it an
// upgrade by signal, one by its own button, and one that is rolled back.
//
//	go test -tags integration -run ThePageShows -artifacts -outputdir /tmp/pictures ./upgrade/control/page
//
// leaves the pictures in /tmp/pictures/_artifacts; upgrade.png is the README's.
func TestThePageShowsAnUpgrade(t *testing.T) {
	b := open(t)
	s := startService(t, "--gate", "http GET /readyz status=200..503 within=1s", "--canary", "2s", "--probation", "1500ms",
		"--rule", "success >= 99% over 3s min 20", "--drain-timeout", "15s")
	s.busy()
	origin := "http://" + s.admin
	b.did(chromedp.Navigate(origin + "/"))
	b.until(title + ` === 'Generation 1 serves' && ` + live)
	require.True(t, says[bool](b, watch))
	require.Equal(t, "No upgrade so far.", says[string](b, say))
	b.until(`document.querySelectorAll('#charts path.curve').length >= 2 && document.querySelector('#requests td.mono')?.textContent === '/ws (hijacked)'`)
	require.Contains(t, says[string](b, `document.getElementById('requests').textContent`), "/slow")
	b.picture("idle")

	// By signal. A request keeps the old one draining until the page has shown it.
	s.ship("2.4.0")
	first, err := upgrade.ReadPIDFile(filepath.Join(s.dir, "server.pid"))
	require.NoError(t, err)
	release := s.hold()
	require.NoError(t, syscall.Kill(first, syscall.SIGUSR2))
	b.until(`document.querySelector('#steps [data-state="now"]')?.dataset.phase === 'probation' && document.querySelectorAll('#lives li').length === 2 &&
		document.querySelector('#charts [data-tone="1"] path.curve')?.getTotalLength() > 4`)
	require.True(t, says[bool](b, `document.getElementById('upgrade').disabled`), "one runs")
	b.picture("first")
	b.until(title + ` === 'Generation 2 serves' && ` + say + `.startsWith('Upgrade 1 succeeded') && window.phases.includes('drain')`)
	release()
	b.until(`document.querySelectorAll('#lives li').length === 1 && document.querySelector('#lives li').dataset.pid !== '` + strconv.Itoa(first) + `'`)
	phases := says[[]string](b, `window.phases`)
	for _, ph := range []string{"gate", "canary", "probation", "drain"} {
		require.Contains(t, phases, ph)
	}
	require.Empty(t, says[[]string](b, `[...document.querySelectorAll('#steps li')].filter((li) => li.dataset.state !== 'done').map((li) => li.dataset.phase)`))
	b.until(`/^\d+ of \d+$/.test(document.querySelector('#reports [data-result="succeeded"] td:last-child')?.textContent)`)

	// By the button, without a mouse.
	s.ship("2.4.1")
	b.until(`!document.getElementById('upgrade').disabled`)
	b.focus("upgrade")
	b.did(chromedp.KeyEvent(kb.Enter))
	b.until(`document.getElementById('ask').open && document.activeElement.id === 'token'`)
	b.did(chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter))
	b.until(`document.getElementById('ask-error').textContent.includes('bearer token')`)
	b.picture("ask")
	b.forgive("401")
	b.did(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter))
	b.until(`!document.getElementById('ask').open`)
	b.until(`document.querySelector('#steps [data-state="now"][data-phase="probation"] .fill')` +
		`&& parseFloat(document.querySelector('#steps [data-state="now"] .fill').style.width) > 40`)
	b.picture("upgrade")
	b.full("upgrade-full")
	b.until(say + `.startsWith('Upgrade 2 succeeded') && ` + title + ` === 'Generation 3 serves'`)
	require.Zero(t, says[int](b, `Object.keys(localStorage).length + Object.keys(sessionStorage).length + document.cookie.length`), "the token is in memory only")

	// One that is bad, and taken back.
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "illness"), []byte("errors 4"), 0o600))
	s.put(s.build("./testdata/releases/sick"))
	third, err := upgrade.ReadPIDFile(filepath.Join(s.dir, "server.pid"))
	require.NoError(t, err)
	b.until(`!document.getElementById('upgrade').disabled && document.querySelectorAll('#lives li').length === 1`)
	require.NoError(t, syscall.Kill(third, syscall.SIGUSR2))
	b.until(say + `.startsWith('Upgrade 3 failed: success is ') && ` + title + ` === 'Generation 3 serves'`)
	require.Equal(t, "failed", says[string](b, `document.querySelector('#steps [data-phase="canary"]').dataset.state`))
	b.until(`document.querySelector('#reports [data-result="failed"]')?.textContent.includes('failed in canary: success is ')`)
	b.did(chromedp.Click(`#reports [data-result="failed"] button`))
	require.Contains(t, says[string](b, `document.querySelector('#reports tr.more:not([hidden]) pre').textContent`), "verdict")
	b.full("report")
	b.did(chromedp.Click(`#reports [data-result="failed"] button`))
	// Until it is to be seen in the charts, too.
	b.until(`document.querySelectorAll('#lives li').length === 1 && [...document.querySelectorAll('#charts rect.band.failed')].filter((r) =>
		r.x.baseVal.value + r.width.baseVal.value < r.ownerSVGElement.viewBox.baseVal.width - 12).length === 3`)
	b.until(`document.querySelector('#charts .chart.alarm[data-some="true"] path.curve') !== null`)
	b.did(chromedp.Evaluate[chromedp.Void](`window.scrollTo(0, 0)`))
	b.picture("rollback")
	b.full("rollback-full")

	// Who opens it only now sees what was before.
	pids, marks := s.remembered()
	require.Contains(t, pids, first)
	require.Contains(t, pids, third)
	require.Contains(t, marks, report.Mark{Kind: report.PhaseBegan, Upgrade: 1, Phase: report.Canary})
	require.Contains(t, marks, report.Mark{Kind: report.Drained, Upgrade: 2})

	require.True(t, says[bool](b, `window.opened && `+live))
	b.clean(origin)
	b.dark()

	total := s.load.Stop().Total()
	out, err := os.ReadFile(s.LogPath())
	require.NoError(t, err)
	bad := int64(bytes.Count(out, []byte(`"message":"bad answer"`)))
	require.Equal(t, bad, total.Failures[load.Status])
	require.Equal(t, bad, total.Failed(), "only the bad answers themselves")
	require.Zero(t, total.Reconnects+total.ToldToClose)
	t.Logf("phases %v; %d sent, %d failed by the sick release", says[[]string](b, `window.phases`), total.Sent, bad)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	// The page says that it has lost the service, since when, and finds it again.
	b.until(`document.getElementById('link-text').textContent.startsWith('no connection since ') && document.getElementById('upgrade').disabled`)
	s.ship(firstBuild)
	s.start()
	b.until(title + ` === 'Generation 1 serves' && window.opened && ` + live)
	require.NoError(t, s.Stop(ctx))
}
