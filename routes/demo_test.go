package routes

import (
	"bufio"
	"context"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHello(t *testing.T) {
	srv := start(t, New(Deps{}))
	a := do(t, srv, "GET", "/", "")
	require.Equal(t, "ok", a.body)
	require.Equal(t, "text/plain; charset=utf-8", a.header.Get("Content-Type"))
	require.Equal(t, "2", do(t, srv, "HEAD", "/", "").header.Get("Content-Length"))
}

func TestEcho(t *testing.T) {
	srv := start(t, New(Deps{}))
	for name, tc := range map[string]struct{ body, given, want string }{
		"json":           {`{"a":1}`, "application/json", "application/json"},
		"with parameter": {"hé", "text/plain; charset=utf-8", "text/plain; charset=utf-8"},
		"no type":        {"\x00\xff", "", "application/octet-stream"},
		"empty":          {"", "", "application/octet-stream"},
		"large":          {strings.Repeat("0123456789abcdef", 1<<17), "a/b", "a/b"},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if tc.given != "" {
				header = []string{"Content-Type", tc.given}
			}
			req := do(t, srv, "POST", "/echo", tc.body, header...)
			require.Equal(t, 200, req.status)
			require.True(t, tc.body == req.body, "%d bytes of %d", len(req.body), len(tc.body))
			require.Equal(t, tc.want, req.header.Get("Content-Type"))
			require.NotEmpty(t, req.header.Get("Content-Length"))
			require.Equal(t, "nosniff", req.header.Get("X-Content-Type-Options"))
		})
	}
}

func TestMillis(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Deps{})
		for query, status := range map[string]int{
			"?ms=0": 200, "?ms=600000": 200,
			"": 400, "?ms=": 400, "?ms=-1": 400, "?ms=600001": 400, "?ms=1.5": 400, "?ms=1s": 400, "?ms=99999999999999999999": 400,
		} {
			w := serveOne(r, httptest.NewRequest("GET", "/slow"+query, nil))
			require.Equal(t, status, w.Code, query)
			if status == 400 {
				e := requireError(t, answer{w.Code, w.Header(), w.Body.String()}, 400, "bad_parameter")
				require.Equal(t, "ms", e.Fields[0].Field)
				require.Equal(t, 400, serveOne(r, httptest.NewRequest("GET", "/stream"+query, nil)).Code)
			} else {
				require.Equal(t, "slow", w.Body.String())
			}
		}
	})
}

func TestStream(t *testing.T) {
	for ms, want := range map[string]string{
		"0":   "end\n",
		"1":   "chunk 0\nend\n",
		"50":  "chunk 0\nend\n",
		"51":  "chunk 0\nchunk 1\nend\n",
		"150": "chunk 0\nchunk 1\nchunk 2\nend\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			w := serveOne(New(Deps{}), httptest.NewRequest("GET", "/stream?ms="+ms, nil))
			require.Equal(t, want, w.Body.String())
			require.Equal(t, ms+"ms", strings.Replace(time.Since(start).String(), "0s", "0ms", 1))
		})
	}
}

// Each chunk can be read before the next is written.
func TestStreamIsFlushed(t *testing.T) {
	srv := start(t, New(Deps{}))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/stream?ms=600000", nil)
	require.NoError(t, err)
	resp, err := srv.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	b := make([]byte, len("chunk 0\nchunk 1\n"))
	_, err = io.ReadFull(resp.Body, b)
	require.NoError(t, err)
	require.Equal(t, "chunk 0\nchunk 1\n", string(b))
}

func TestUpload(t *testing.T) {
	srv := start(t, New(Deps{RequestTimeout: time.Minute}))
	for _, size := range []int{0, 1, uploadBuffer, 3*uploadBuffer + 7} {
		body := strings.Repeat("holdfast", size/8+1)[:size]
		a := do(t, srv, "POST", "/upload", body)
		require.Equal(t, 200, a.status)
		var got uploadBody
		require.NoError(t, json.Unmarshal([]byte(a.body), &got))
		require.Equal(t, uploadBody{int64(size), crc32.ChecksumIEEE([]byte(body))}, got)
	}
}

// 64 MiB go by, and are never held.
func TestUploadIsNotBuffered(t *testing.T) {
	const size = 64 << 20
	req := httptest.NewRequest("POST", "/upload", io.LimitReader(zeros{}, size))
	r := New(Deps{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := serveOne(r, req)
	runtime.ReadMemStats(&after)
	require.Contains(t, w.Body.String(), `"bytes":67108864`)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

// An upload lasts as long as its line makes it.
func TestUploadOutlastsTheTimeout(t *testing.T) {
	srv := start(t, New(Deps{RequestTimeout: 20 * time.Millisecond}))
	conn := dial(t, srv)
	rd := bufio.NewReader(conn)
	_, err := io.WriteString(conn, "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
	require.NoError(t, err)
	line, err := rd.ReadString('\n') // sent when the handler begins to read
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")

	// What began later has run out of time: so would the upload have.
	requireError(t, do(t, srv, "GET", "/slow?ms=600000", ""), 503, "timeout")

	_, err = io.WriteString(conn, "123456789")
	require.NoError(t, err)
	_, err = rd.ReadString('\n')
	require.NoError(t, err)
	resp, err := http.ReadResponse(rd, nil)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, 200, resp.StatusCode)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"bytes":9,"crc32":3421780262}`, string(body)) // 0xcbf43926, the check value of CRC-32
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
