package handoff

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

// BenchmarkServer compares a tracked server with plain net/http under the same
// Gin engine, one client on one reused connection. Client and server are in one
// process, so allocations are those of both; the client's are the same in each.
//
//	go test -run - -bench Server -count 10 ./handoff | benchstat -col /server -
func BenchmarkServer(b *testing.B) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	engine.POST("/echo", func(c *gin.Context) {
		c.DataFromReader(http.StatusOK, c.Request.ContentLength, "application/octet-stream", c.Request.Body, nil)
	})
	body := strings.Repeat("x", 1024)
	requests := map[string]string{
		"get":  get,
		"post": "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body,
	}
	for _, name := range []string{"get", "post"} {
		b.Run("request="+name+"/server=plain", func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: engine}
			done := make(chan struct{})
			go func() { defer close(done); _ = srv.Serve(ln) }()
			exchange(b, ln.Addr(), requests[name])
			_ = srv.Close()
			<-done
		})
		b.Run("request="+name+"/server=tracked", func(b *testing.B) {
			set := NewSet(none{}, nil, BindOptions{})
			lns, err := set.Listen(Address{Name: "http", Network: "tcp", Addr: "127.0.0.1:0"})
			if err != nil {
				b.Fatal(err)
			}
			s, err := NewServer(&http.Server{Handler: engine})
			if err != nil {
				b.Fatal(err)
			}
			s.Start(lns[0], func(err error) { b.Error(err) })
			exchange(b, lns[0].Addr(), requests[name])
			_ = set.Close()
			s.Wait()
			s.cut()
		})
	}
}

func exchange(b *testing.B, addr net.Addr, request string) {
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
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
