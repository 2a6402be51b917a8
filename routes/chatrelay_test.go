package routes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/handoff"
)

// wire is one direction between two hubs. What is sent lies there until the test
// delivers it.
type wire struct {
	mu     sync.Mutex // guards what follows
	lies   [][]byte
	broken bool
}

func (w *wire) send(b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errors.New("the peer does not read")
	}
	w.lies = append(w.lies, b)
	return nil
}

func (w *wire) breaks(broken bool) {
	w.mu.Lock()
	w.broken = broken
	w.mu.Unlock()
}

// deliver gives the oldest message to the hub, so often; false if there is none.
func (w *wire) deliver(to *chatHub, times int) bool {
	w.mu.Lock()
	if len(w.lies) == 0 {
		w.mu.Unlock()
		return false
	}
	b := w.lies[0]
	w.lies = w.lies[1:]
	w.mu.Unlock()
	for range times {
		to.receive(b)
	}
	return true
}

// hubs are two of them, each with one member of the room "r".
type hubs struct {
	t                *testing.T
	old, new         *chatHub
	toNew, toOld     wire
	oldRoom, newRoom *chatRoom
	oldSaid, newSaid []string // what was posted on which side
}

func newHubs(t *testing.T) *hubs {
	h := &hubs{t: t, old: newChatHub(), new: newChatHub()}
	h.old.send, h.new.send = h.toNew.send, h.toOld.send
	var err error
	h.oldRoom, err = h.old.join("r", 0)
	require.NoError(t, err)
	return h
}

func (h *hubs) load() {
	h.t.Helper()
	b, err := h.old.save()
	require.NoError(h.t, err)
	h.loads(b)
}

func (h *hubs) loads(b []byte) {
	h.t.Helper()
	require.NoError(h.t, h.new.load(b))
	var err error
	h.newRoom, err = h.new.join("r", 0)
	require.NoError(h.t, err)
}

func (h *hubs) oldPosts() {
	h.t.Helper()
	s := fmt.Sprint("old ", len(h.oldSaid))
	h.oldSaid = append(h.oldSaid, s)
	require.NoError(h.t, h.old.post(h.oldRoom, &chatEntry{From: "old", Text: s}))
}

func (h *hubs) newPosts() {
	h.t.Helper()
	s := fmt.Sprint("new ", len(h.newSaid))
	h.newSaid = append(h.newSaid, s)
	require.NoError(h.t, h.new.post(h.newRoom, &chatEntry{From: "new", Text: s}))
}

// quiet delivers everything until nobody has anything to say.
func (h *hubs) quiet() {
	h.t.Helper()
	for again := true; again; {
		require.True(h.t, h.old.flushed(5*time.Second))
		require.True(h.t, h.new.flushed(5*time.Second))
		again = h.toNew.deliver(h.new, 1)
		again = h.toOld.deliver(h.old, 1) || again
	}
}

// texts is a log, checked to be consecutive from 1.
func (h *hubs) texts(hub *chatHub, r *chatRoom) (all []string) {
	h.t.Helper()
	cursor := uint64(0)
	for {
		batch, _, _, ok := hub.after(r, cursor)
		require.True(h.t, ok)
		if len(batch) == 0 {
			return all
		}
		for _, e := range batch {
			require.Equal(h.t, cursor+1, e.Seq)
			cursor = e.Seq
			all = append(all, e.Text)
		}
	}
}

// only are those of one side.
func only(all []string, side string) (of []string) {
	for _, s := range all {
		if strings.HasPrefix(s, side) {
			of = append(of, s)
		}
	}
	return of
}

// Whatever the order in which two processes post, send and receive, however often a
// message arrives, and whichever of them is gone in the end at whatever point: the one
// that is left has one log, with each post once and in the order of its poster.
func TestChatRelayInAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		chosen := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // any choice will do
		h := newHubs(t)
		var saved []byte
		loaded, follows := false, false
		steps := 20 + chosen.IntN(100)
		for range steps {
			switch chosen.IntN(7) {
			case 0, 1:
				h.oldPosts()
			case 2:
				if loaded {
					h.newPosts()
				}
			case 3:
				follows = h.toOld.deliver(h.old, 1+chosen.IntN(2)) || follows
			case 4:
				if loaded {
					h.toNew.deliver(h.new, 1+chosen.IntN(2))
				}
			case 5:
				if saved == nil {
					var err error
					saved, err = h.old.save()
					require.NoError(t, err)
				} else if !loaded {
					loaded = true
					h.loads(saved)
				}
			case 6:
				if loaded { // what its client has seen, the other log has, or will
					seen := h.texts(h.old, h.oldRoom)
					if follows {
						require.True(t, h.old.flushed(5*time.Second))
						has := len(h.texts(h.new, h.newRoom))
						h.toNew.mu.Lock()
						has += len(h.toNew.lies)
						h.toNew.mu.Unlock()
						require.LessOrEqual(t, len(seen), has)
					}
				}
			}
		}
		if !loaded || chosen.IntN(2) == 0 { // the new one fails
			for h.toOld.deliver(h.old, 1) {
			}
			h.old.gone()
			h.oldPosts()
			all := h.texts(h.old, h.oldRoom)
			require.Equal(t, h.oldSaid, only(all, "old"), "seed %d", seed)
			came := only(all, "new")
			require.LessOrEqual(t, len(came), len(h.newSaid), "seed %d", seed)
			require.True(t, slices.Equal(h.newSaid[:len(came)], came), "in order, without repetition; seed %d", seed)
			continue
		}
		// The old one exits, when it has sent what it had to.
		if chosen.IntN(2) == 0 {
			h.quiet()
		}
		require.True(t, h.new.flushed(5*time.Second))
		for !follows && h.toOld.deliver(h.old, 1) {
			follows = true
		}
		require.True(t, h.old.flushed(5*time.Second))
		for h.toNew.deliver(h.new, 1) {
		}
		was := h.texts(h.old, h.oldRoom)
		h.new.gone()
		h.newPosts()
		all := h.texts(h.new, h.newRoom)
		require.GreaterOrEqual(t, len(all), len(was), "seed %d", seed)
		require.True(t, slices.Equal(was, all[:len(was)]), "seed %d: what was seen there is here", seed)
		require.Equal(t, h.oldSaid, only(all, "old"), "seed %d", seed)
		require.Equal(t, h.newSaid, only(all, "new"), "seed %d", seed)
	}
}

// A new process that does not read does not hold the old one up. When it reads again it
// begins anew, and both have everything.
func TestChatFollowerThatIsLost(t *testing.T) {
	h := newHubs(t)
	h.load()
	h.quiet()
	h.oldPosts()
	h.newPosts()
	h.quiet()
	h.toNew.breaks(true)
	h.oldPosts()
	require.True(t, h.old.flushed(5*time.Second))
	require.False(t, h.old.linked(0), "nobody moves there")
	h.oldPosts()
	require.Len(t, h.texts(h.old, h.oldRoom), 4)
	h.newPosts()
	h.newPosts()
	h.toNew.breaks(false)
	h.quiet()
	all := h.texts(h.old, h.oldRoom)
	require.Len(t, all, 6)
	require.Equal(t, all, h.texts(h.new, h.newRoom))
	require.Empty(t, h.new.pending)
	require.True(t, h.old.linked(0))
}

// An old process that does not read holds up what is posted in the new one, and nothing
// is lost, whether it reads again or is gone.
func TestChatLeaderThatDoesNotRead(t *testing.T) {
	for _, gone := range []bool{false, true} {
		h := newHubs(t)
		h.load()
		h.quiet()
		h.toOld.breaks(true)
		h.newPosts()
		h.newPosts()
		require.False(t, h.new.flushed(time.Millisecond))
		require.Empty(t, h.texts(h.new, h.newRoom))
		if gone {
			h.new.gone()
		} else {
			h.toOld.breaks(false)
			h.quiet()
		}
		require.Equal(t, h.newSaid, h.texts(h.new, h.newRoom))
		require.True(t, h.new.flushed(5*time.Second))
	}
}

// While one hub follows, the other one alone pushes, for the members of both; afterwards
// the one that is left does.
func TestChatPushesOnce(t *testing.T) {
	h := newHubs(t)
	h.load()
	h.quiet()
	other, err := h.new.join("pushed", time.Hour) // never due in this test
	require.NoError(t, err)
	h.quiet()
	timer := func(hub *chatHub) bool {
		hub.mu.Lock()
		defer hub.mu.Unlock()
		r := hub.rooms["pushed"]
		return r != nil && r.timer != nil
	}
	require.True(t, timer(h.old), "for a member that is elsewhere")
	require.False(t, timer(h.new))
	h.new.gone()
	h.old.gone()
	require.False(t, timer(h.old))
	require.True(t, timer(h.new))
	h.new.leave(other)
	require.False(t, timer(h.new))
}

// State that makes no sense leaves what a first start would find.
func TestChatLoadsOnlyWhatMakesSense(t *testing.T) {
	for _, s := range []string{
		"", "null and void", `{"rooms":[{"name":"r","last":2,"log":[{"seq":1}]}]}`,
		`{"rooms":[{"name":"r","last":3,"log":[{"seq":1},{"seq":3}]}]}`, `{"rooms":[{"name":"r","log":[null]}]}`,
	} {
		h := newChatHub()
		require.Error(t, h.load([]byte(s)), s)
		require.Empty(t, h.rooms)
		require.False(t, h.linked(0))
		h.receive([]byte(s)) // nor does such a message do anything
		h.receive([]byte(`{"type":"post","room":"r"}`))
		h.receive([]byte(`{"type":"later"}`))
		require.Equal(t, chatAlone, h.role)
	}
}

// All the rooms with all their history fit into what an upgrade carries.
func TestChatStateIsBounded(t *testing.T) {
	h := newChatHub()
	r, err := h.join(strings.Repeat("r", 32), time.Minute)
	require.NoError(t, err)
	fill := func(n int, text string) int {
		for range n {
			require.NoError(t, h.post(r, &chatEntry{From: strings.Repeat("n", 32), Text: text, By: newChatID()}))
		}
		b, err := h.save()
		require.NoError(t, err)
		require.NoError(t, newChatHub().load(b))
		return len(b)
	}
	// Many short entries, and long ones of what JSON doubles.
	size := max(fill(chatHistory, strings.Repeat(`"`, chatSaved/chatHistory)), fill(chatHistory, strings.Repeat(`"`, chatTextLimit)))
	require.Less(t, size*chatRooms, handoff.MaxState)
	h.leave(r)
}
