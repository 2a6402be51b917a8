package handoff

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// someFrames encodes n frames of many kinds and sizes, and tells where each ends.
func someFrames(t testing.TB, seed []byte, n int) (wire []byte, ends []int) {
	t.Helper()
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	for i := range n {
		k := byte(i)
		if len(seed) > 0 {
			k += seed[i%len(seed)]
		}
		stream := uint32(2*i + 1)
		var err error
		switch k % 7 {
		case 0:
			err = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		case 1:
			err = fr.WriteData(stream, k%2 == 0, bytes.Repeat([]byte{k}, int(k)*int(k)))
		case 2:
			err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: bytes.Repeat([]byte{k}, int(k)), EndHeaders: k%2 == 0})
		case 3:
			err = fr.WritePing(k%2 == 0, pingMark)
		case 4:
			err = fr.WriteSettingsAck()
		case 5:
			err = fr.WriteGoAway(stream, http2.ErrCodeNo, bytes.Repeat([]byte{k}, int(k)))
		case 6:
			err = fr.WriteRawFrame(0xfa, http2.Flags(k), stream, bytes.Repeat([]byte{k}, 256*int(k)+1))
		}
		require.NoError(t, err)
		ends = append(ends, b.Len())
	}
	return b.Bytes(), ends
}

// followed checks that frames read in pieces of the given sizes, over and over, end
// where they end, and show the header that the standard parser sees.
func followed(t testing.TB, wire []byte, ends []int, preface int, pieces []byte) {
	t.Helper()
	f := frames{preface: preface}
	read := http2.NewFramer(nil, bytes.NewReader(wire))
	read.AllowIllegalReads = true
	read.SetMaxReadFrameSize(1 << 24)
	wire = append(bytes.Repeat([]byte{0xff}, preface), wire...)
	var got []int
	at := 0
	for i := 0; at < len(wire); i++ {
		size := len(wire)
		if len(pieces) > 0 {
			size = int(pieces[i%len(pieces)]) + 1
		}
		for p := wire[at:min(len(wire), at+size)]; len(p) > 0; {
			n, ended := f.next(p)
			require.Positive(t, n)
			p, at = p[n:], at+n
			require.Equal(t, ended, f.between() && at > preface)
			if !ended {
				continue
			}
			got = append(got, at-preface)
			want, err := read.ReadFrame()
			require.NoError(t, err)
			h := want.Header()
			require.Equal(t, h.Type, f.kind())
			require.Equal(t, h.StreamID, f.stream())
			require.Equal(t, h.Flags, http2.Flags(f.head[4]))
			ping, ok := want.(*http2.PingFrame)
			require.Equal(t, ok && ping.IsAck() && ping.Data == pingMark, f.isAck(pingMark))
		}
	}
	require.Equal(t, ends, got)
}

func TestFramesAreFollowedHoweverTheyAreSplit(t *testing.T) {
	wire, ends := someFrames(t, nil, 60)
	for _, pieces := range [][]byte{nil, {0}, {1}, {7}, {8}, {9}, {16}, {17}, {0, 255}, {3, 1, 4, 1, 5, 9, 2, 6}} {
		for _, preface := range []int{0, len(http2.ClientPreface)} {
			followed(t, wire, ends, preface, pieces)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{1, 2, 3}, []byte{0, 8, 9}, true)
	f.Add([]byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, seed, pieces []byte, client bool) {
		wire, ends := someFrames(t, seed, 1+len(seed)%40)
		preface := 0
		if client {
			preface = len(http2.ClientPreface)
		}
		followed(t, wire, ends, preface, pieces)
	})
}
