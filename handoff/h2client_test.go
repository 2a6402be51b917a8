package handoff

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client speaks HTTP/2 frame by frame and does nothing by itself but acknowledge
// SETTINGS. Reading is what moves it: see until.
type h2Client struct {
	t *testing.T
	net.Conn
	fr     *http2.Framer
	enc    *hpack.Encoder
	fields bytes.Buffer

	goAways []uint32 // last streams, in order
	pings   [][8]byte
	streams map[uint32]*h2Stream
	ended   bool // by the server
}

type h2Stream struct {
	body  bytes.Buffer
	done  bool
	reset bool
}

// newH2Client does the handshakes over c. The windows are as large as they can be.
func newH2Client(t *testing.T, c net.Conn, roots *x509.CertPool) *h2Client {
	t.Helper()
	conf := clientTLS(roots)
	conf.NextProtos = []string{http2.NextProtoTLS}
	tc := tls.Client(c, conf)
	require.NoError(t, tc.SetDeadline(time.Now().Add(20*time.Second)))
	require.NoError(t, tc.Handshake())
	_, err := io.WriteString(tc, http2.ClientPreface)
	require.NoError(t, err)
	h := &h2Client{t: t, Conn: tc, fr: http2.NewFramer(tc, tc), streams: map[uint32]*h2Stream{}}
	h.enc = hpack.NewEncoder(&h.fields)
	h.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	require.NoError(t, h.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}))
	require.NoError(t, h.fr.WriteWindowUpdate(0, 1<<31-1-65535))
	return h
}

func (r *rig) dialH2(t *testing.T, roots *x509.CertPool) *h2Client {
	t.Helper()
	return newH2Client(t, r.dial(t), roots)
}

// ask opens a stream with a complete request.
func (h *h2Client) ask(stream uint32, path string) {
	h.t.Helper()
	h.fields.Reset()
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "example.com"}, {":path", path}} {
		require.NoError(h.t, h.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	h.streams[stream] = &h2Stream{}
	require.NoError(h.t, h.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: h.fields.Bytes(), EndHeaders: true, EndStream: true,
	}))
}

// until reads frames until cond holds; the server's close ends it, too.
func (h *h2Client) until(what string, cond func() bool) {
	h.t.Helper()
	for !cond() {
		f, err := h.fr.ReadFrame()
		if errors.Is(err, io.EOF) {
			h.ended = true
			require.True(h.t, cond(), "the server closed: %s", what)
			return
		}
		require.NoError(h.t, err, what)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				require.NoError(h.t, h.fr.WriteSettingsAck())
			}
		case *http2.PingFrame:
			require.False(h.t, f.IsAck())
			h.pings = append(h.pings, f.Data)
		case *http2.GoAwayFrame:
			require.Equal(h.t, http2.ErrCodeNo, f.ErrCode)
			if n := len(h.goAways); n > 0 {
				require.LessOrEqual(h.t, f.LastStreamID, h.goAways[n-1], "the last stream never rises")
			}
			h.goAways = append(h.goAways, f.LastStreamID)
		case *http2.MetaHeadersFrame:
			h.streams[f.StreamID].done = f.StreamEnded()
		case *http2.DataFrame:
			h.streams[f.StreamID].body.Write(f.Data())
			h.streams[f.StreamID].done = f.StreamEnded()
		case *http2.RSTStreamFrame:
			h.streams[f.StreamID].reset, h.streams[f.StreamID].done = true, true
		}
	}
}

// answered waits for the response on a stream.
func (h *h2Client) answered(stream uint32) string {
	h.t.Helper()
	h.until("response", func() bool { return h.streams[stream].done })
	require.False(h.t, h.streams[stream].reset, "stream %d was refused", stream)
	return h.streams[stream].body.String()
}

// told waits for the nth GOAWAY and the PING behind it.
func (h *h2Client) told(n int) {
	h.t.Helper()
	h.until("GOAWAY and PING", func() bool { return len(h.goAways) >= n && len(h.pings) >= n })
}

func (h *h2Client) ack(n int) {
	h.t.Helper()
	require.NoError(h.t, h.fr.WritePing(true, h.pings[n-1]))
}

func (h *h2Client) closed() { h.t.Helper(); h.until("the end", func() bool { return h.ended }) }
