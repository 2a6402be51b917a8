package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A sender that cannot send goes on in smaller messages, waits for room, or gives
// up; no connection is without a verdict.
func TestSenderThatCannotSend(t *testing.T) {
	told := map[*parcel][]bool{}
	parcels := func(n int) *batch {
		b := &batch{seq: 7}
		for range n {
			p := &parcel{}
			p.verdict = func(moved bool) { told[p] = append(told[p], moved) }
			b.parcels = append(b.parcels, p)
		}
		return b
	}
	a, b := links(t)
	for _, tc := range []struct {
		name    string
		err     error
		size    int
		waiting int // other messages without an answer

		again           bool
		queued, limit   int
		refused, gaveUp bool
	}{
		{"too long: half of it", unix.EMSGSIZE, 10, 0, true, 10, 5, false, false},
		{"too long, alone: it stays", unix.EMSGSIZE, 1, 2, true, 0, 253, true, false},
		{"too many under way: an answer makes room", unix.ETOOMANYREFS, 10, 1, false, 10, 253, false, false},
		{"too many under way, none of them ours: fewer", unix.ETOOMANYREFS, 10, 0, true, 10, 5, false, false},
		{"not even one", unix.ETOOMANYREFS, 1, 0, true, 0, 253, true, false},
		{"the peer is gone", unix.EPIPE, 10, 0, false, 0, 253, true, true},
		{"it does not read", context.DeadlineExceeded, 10, 0, false, 0, 253, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &Sender{link: a, limit: maxFiles, wake: make(chan struct{}, 1)}
			for range tc.waiting {
				s.sent = append(s.sent, parcels(1))
			}
			b := parcels(tc.size)
			s.sent = append(s.sent, b)
			require.Equal(t, tc.again, s.unsent(b, fmt.Errorf("send: %w", tc.err)))
			require.Len(t, s.queue, tc.queued)
			require.Len(t, s.sent, tc.waiting)
			require.Equal(t, tc.limit, s.limit)
			require.Equal(t, tc.gaveUp, errors.Is(s.Err(), tc.err))
			for _, p := range b.parcels {
				if tc.refused {
					require.Equal(t, []bool{false}, told[p])
				} else {
					require.Empty(t, told[p])
				}
			}
		})
	}
	require.NoError(t, b.Close())
}

// The peer's word and its end may come while a message is being sent.
func TestSenderDecidesOnce(t *testing.T) {
	a, _ := links(t)
	s := NewSender(a, time.Minute)
	var told []bool
	b := &batch{seq: 1, parcels: []*parcel{{verdict: func(moved bool) { told = append(told, moved) }}}}
	s.mu.Lock()
	s.sent = append(s.sent, b)
	s.mu.Unlock()
	s.acknowledge(Message{Type: Ack, Seq: 1, Taken: []byte{1}})
	s.gone()
	require.False(t, s.unsent(b, io.ErrClosedPipe))
	require.Equal(t, []bool{true}, told)
	require.False(t, s.hand(-1, Item{}), "it takes no more")
	s.Close()
	s.Close()
	moved, refused := s.Counts()
	require.Equal(t, 1, moved)
	require.Zero(t, refused)
}

// States that do not fit into one message travel in several.
func TestI3_LargeStatesMove(t *testing.T) {
	a, b := links(t)
	s := NewSender(a, 10*time.Second)
	verdicts := make(chan bool, 8)
	for range 8 {
		go func() {
			verdicts <- s.hand(0, Item{Kind: kindHijacked, State: make([]byte, MaxConnState)})
		}()
	}
	for range 8 {
		m, err := b.Receive(10 * time.Second)
		require.NoError(t, err)
		require.Len(t, m.Items, 1)
		require.Len(t, m.Items[0].State, MaxConnState)
		m.discard()
		ack := Message{Type: Ack, Seq: m.Seq}
		ack.take(0)
		require.NoError(t, b.Send(ack))
		got, err := a.Receive(10 * time.Second)
		require.NoError(t, err)
		s.acknowledge(got)
		require.True(t, <-verdicts)
	}
	s.Close()
}
