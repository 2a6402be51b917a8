package handoff

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"
)

// BenchmarkServer compares a tracked server, and one whose connection has come
// from another process, with plain net/http under the same Gin engine (and a file
// beside it: Gin's writer hides sendfile(2)), one client on one reused connection.
// Client and server are in one process, so allocations are those of both; the
// client's are the same in each.
//
//	go test -run - -bench Server -count 10 ./handoff | benchstat -col /server -
func BenchmarkServer(b *testing.B) {
	handler, requests := benchHandler(b)
	for _, name := range []string{"get", "post", "file"} {
		for _, server := range []struct {
			name string
			dial func(*testing.B, http.Handler) net.Conn
		}{
			{"plain", dialPlain}, {"tracked", dialTracked}, {"adopted", dialAdopted},
		} {
			b.Run("request="+name+"/server="+server.name, func(b *testing.B) {
				exchange(b, server.dial(b, handler), requests[name])
			})
		}
	}
}

func benchHandler(b *testing.B) (h http.Handler, requests map[string]string) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	engine.POST("/echo", func(c *gin.Context) {
		c.DataFromReader(http.StatusOK, c.Request.ContentLength, "application/octet-stream", c.Request.Body, nil)
	})
	file := filepath.Join(b.TempDir(), "file")
	require.NoError(b, os.WriteFile(file, make([]byte, 8<<20), 0o600))
	mux := http.NewServeMux()
	mux.Handle("/", engine)
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	body := strings.Repeat("x", 1024)
	return mux, map[string]string{
		"get":  get,
		"post": "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body,
		"file": "GET /file HTTP/1.1\r\nHost: x\r\n\r\n",
	}
}

func dialPlain(b *testing.B, h http.Handler) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	b.Cleanup(func() { _ = srv.Close(); <-done })
	return dialed(b, ln.Addr())
}

func dialTracked(b *testing.B, h http.Handler) net.Conn {
	r := serve(b, &http.Server{Handler: h}, "127.0.0.1:0")
	return dialed(b, r.ln.Addr())
}

func dialAdopted(b *testing.B, h http.Handler) net.Conn {
	p := newPair(b, "127.0.0.1:0", func() *http.Server { return &http.Server{Handler: h} })
	c := dialed(b, p.old.ln.Addr())
	until(b, "it waits", func() bool { return p.old.waiting() == 1 })
	require.NoError(b, p.old.Move(context.Background(), p.oldPeer.Sender()))
	until(b, "it has moved", func() bool { return p.new.waiting() == 1 })
	return c
}

func dialed(b *testing.B, addr net.Addr) net.Conn {
	c, err := net.DialTimeout(addr.Network(), addr.String(), 10*time.Second)
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func exchange(b *testing.B, c net.Conn, request string) {
	br := bufio.NewReader(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(c, request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}
