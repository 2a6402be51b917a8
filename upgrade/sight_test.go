package upgrade

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade/health"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

func TestShorten(t *testing.T) {
	for in, want := range map[string]string{"/a": "/a", "": "", "/12345": "/123…", "/\xff/": "/�/", "/äöü": "/ä�…"} {
		got := shorten(in, 4)
		require.Equal(t, want, got)
		require.True(t, utf8.ValidString(got))
	}
}

func TestLimitsSayWhatIsOff(t *testing.T) {
	c, err := Config{Canary: 20 * time.Second, DrainTimeout: time.Minute}.withDefaults()
	require.NoError(t, err)
	ms := c.limits()
	require.Len(t, ms, 8)
	require.Equal(t, []float64{20_000, 60_000, 10_000, 0, 0}, []float64{ms[report.Canary], ms[report.Drain], ms[report.Takeover], ms[report.Gate], ms[report.Probation]})
}

// A second that is looked at twice, at a generation's end for example, is one.
func TestASecondIsAddedUp(t *testing.T) {
	w := health.NewWindow(time.Minute)
	c := &pace{laps: w.Laps()}
	var h report.History
	w.Observe(http.StatusOK, 10*time.Millisecond, false)
	c.note(&h, 5)
	w.Observe(http.StatusInternalServerError, 20*time.Millisecond, false)
	c.note(&h, 5)
	c.note(&h, 6)
	all := h.Seconds(0)
	require.Len(t, all, 2)
	require.Equal(t, []uint64{2, 1, 0}, []uint64{all[0].Requests, all[0].Failures, all[1].Requests})
	require.InEpsilon(t, 20_000, all[0].P95, 0.04)
	require.True(t, strings.HasPrefix(report.Mark{ID: 1_000_000}.At().UTC().String(), "1970-01-01 00:00:01"))
}
