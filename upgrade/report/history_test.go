package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSecondsAreBoundedAndReplaced(t *testing.T) {
	var h History
	require.NotNil(t, h.Seconds(0))
	for at := int64(1000); at < 1000+2*KeepSeconds; at++ {
		h.Put(Second{At: at, PID: 7, Requests: 1}, Second{At: at, PID: 8, Requests: 2})
	}
	all := h.Seconds(0)
	require.Len(t, all, 2*KeepSeconds)
	require.EqualValues(t, 1000+KeepSeconds, all[0].At)
	last := all[len(all)-1].At
	h.Put(Second{At: last, PID: 7, Requests: 5})
	require.Equal(t, []Second{{At: last, PID: 7, Requests: 5}, {At: last, PID: 8, Requests: 2}}, h.Seconds(last))
	require.Empty(t, h.Seconds(last+1))

	// Late, and of more generations than there can be.
	for pid := range 100 {
		h.Put(Second{At: last - 1, PID: 1000 + pid})
	}
	for at := last; at > last-KeepSeconds; at-- {
		for pid := range 10 {
			h.Put(Second{At: at, PID: 2000 + pid})
		}
	}
	require.LessOrEqual(t, len(h.Seconds(0)), maxLives*KeepSeconds)
}

func TestMarksFollowAnUpgrade(t *testing.T) {
	var h History
	o := Outcome{Number: 3, Result: Running, Phase: Spawn}
	require.True(t, h.Follow(o))
	require.False(t, h.Follow(o), "known")
	for _, ph := range []Phase{Start, Takeover, Commit, Probation, Commit} {
		o.Phase = ph
		require.True(t, h.Follow(o))
	}
	o.Result, o.Phase, o.Ended = Succeeded, "", time.Now()
	require.True(t, h.Follow(o))
	require.False(t, h.Follow(o))
	h.Note(Mark{Kind: PhaseBegan, Upgrade: 3, Phase: Drain})
	require.False(t, h.Follow(o), "also while the old one drains")
	h.Note(Mark{Kind: Drained, Upgrade: 3})

	marks, cursor := h.Marks(0)
	require.Len(t, marks, 9)
	for i := range marks[1:] {
		require.Greater(t, marks[i+1].ID, marks[i].ID)
	}
	rest, _ := h.Marks(marks[5].ID)
	require.Equal(t, marks[6:], rest, "what a client missed that has seen the sixth")
	news, _ := h.News(cursor)
	require.Empty(t, news)

	for n := range 2 * KeepMarks {
		h.Note(Mark{Kind: PhaseBegan, Upgrade: 4 + n, Phase: Spawn})
	}
	marks, _ = h.Marks(0)
	require.Len(t, marks, KeepMarks)
	require.Equal(t, 3+2*KeepMarks, marks[KeepMarks-1].Upgrade)
}

// The next generation has marks of its own when those of the old one come.
func TestAHistoryIsLearned(t *testing.T) {
	var old, next History
	old.Put(Second{At: 99, PID: 1, Requests: 3})
	require.True(t, old.Follow(Outcome{Number: 1, Result: Running, Phase: Spawn}))
	require.True(t, old.Follow(Outcome{Number: 1, Result: Running, Phase: Commit}))
	require.True(t, next.Follow(Outcome{Number: 1, Result: Succeeded, Ended: time.Now().Add(time.Millisecond)}))
	next.Put(Second{At: 100, PID: 2, Requests: 4})
	_, cursor := next.Marks(0)

	b, err := json.Marshal(old.Past())
	require.NoError(t, err)
	var past Past
	require.NoError(t, json.Unmarshal(b, &past))
	next.Learn(past)
	next.Learn(past)
	require.Len(t, next.Seconds(0), 2)
	marks, _ := next.Marks(0)
	require.Equal(t, []Phase{Spawn, Commit, ""}, []Phase{marks[0].Phase, marks[1].Phase, marks[2].Phase})
	news, _ := next.News(cursor)
	require.Equal(t, marks[:2], news, "they are older than what a client has, and still news")
}

// A full history fits into one message between the generations (160 KiB, as base64).
func TestAFullHistoryIsSmall(t *testing.T) {
	var h History
	for at := int64(1_800_000_000); at < 1_800_000_000+KeepSeconds; at++ {
		for pid := range maxLives {
			h.Put(Second{At: at, PID: 4_000_000 + pid, Requests: 123_456, Failures: 1234, P95: 12_345_678})
		}
	}
	for n := range KeepMarks {
		h.Note(Mark{Kind: Outcomes, Upgrade: n, Phase: Probation, Result: Failed, Reason: strings.Repeat("why ", MaxReason)})
	}
	b, err := json.Marshal(h.Past())
	require.NoError(t, err)
	require.Less(t, len(b)*4/3, 150<<10)
}

func TestProgress(t *testing.T) {
	at := func(n int) time.Time { return time.UnixMicro(int64(n)) }
	phase := func(id int, ph Phase) Mark {
		return Mark{ID: int64(id), Kind: PhaseBegan, Upgrade: 2, Phase: ph}
	}
	limits := map[Phase]float64{Spawn: 60, Canary: 0, Drain: 30}
	marks := []Mark{
		{ID: 1, Kind: PhaseBegan, Upgrade: 1, Phase: Gate},
		phase(10, Spawn), phase(20, Start), phase(30, Takeover), phase(40, Commit), phase(41, Probation), phase(50, Commit),
	}
	p := NewProgress(marks[:6], 2, limits)
	require.Equal(t, Running, p.Result)
	require.Equal(t, Probation, p.Phase)
	byPhase := func(ph Phase) Step {
		for _, s := range p.Steps {
			if s.Phase == ph {
				return s
			}
		}
		return Step{}
	}
	require.Len(t, p.Steps, 8)
	require.Equal(t, Step{Phase: Spawn, Began: at(10), Ended: at(20), Limit: 60}, byPhase(Spawn))
	require.Equal(t, Step{Phase: Canary, Off: true}, byPhase(Canary))
	require.Equal(t, Step{Phase: Gate}, byPhase(Gate), "that of another upgrade")
	require.Equal(t, Step{Phase: Probation, Began: at(41)}, byPhase(Probation))
	require.Equal(t, Step{Phase: Commit}, byPhase(Commit), "that is yet to come")

	marks = append(marks, Mark{ID: 60, Kind: Outcomes, Upgrade: 2, Result: Succeeded}, phase(61, Drain))
	p = NewProgress(marks, 2, limits)
	require.Equal(t, []any{Succeeded, Drain}, []any{p.Result, p.Phase})
	require.Equal(t, Step{Phase: Commit, Began: at(50), Ended: at(60)}, byPhase(Commit))
	p = NewProgress(append(marks, Mark{ID: 70, Kind: Drained, Upgrade: 2}), 2, limits)
	require.Equal(t, Step{Phase: Drain, Began: at(61), Ended: at(70), Limit: 30}, byPhase(Drain))
	require.Empty(t, p.Phase)

	p = NewProgress([]Mark{phase(10, Spawn), phase(20, Start), {ID: 30, Kind: Outcomes, Upgrade: 2, Phase: WarmUp, Result: Failed, Reason: "no"}}, 2, nil)
	require.Equal(t, []any{Failed, "no"}, []any{p.Result, p.Reason})
	require.Equal(t, Step{Phase: Start, Began: at(20), Ended: at(30), Failed: true}, byPhase(Start))
}
