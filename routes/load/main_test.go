package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(runChild(role))
	}
	goleak.VerifyTestMain(m)
}

// scripted is a server that does with each connection what the test says.
func scripted(t *testing.T, serve func(net.Conn)) Addr {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		group.Wait()
	})
	return Addr{Network: "tcp", Address: ln.Addr().String()}
}

// asked is a request that a scripted server has read.
type asked struct {
	id   string
	body []byte
}

// readAsked returns false at the end of the connection.
func readAsked(br *bufio.Reader) (asked, bool) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return asked{}, false
	}
	body, err := io.ReadAll(r.Body)
	return asked{r.Header.Get("X-Request-Id"), body}, err == nil
}

// each answers every request on the connection with the text that answer makes, and
// closes when that is "".
func each(answer func(asked) string) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			a, ok := readAsked(br)
			if !ok {
				return
			}
			text := answer(a)
			if _, err := io.WriteString(c, text); err != nil || text == "" {
				return
			}
		}
	}
}

// right is a right answer, with more header lines.
func right(a asked, header string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Request-Id: %s\r\n%sContent-Length: %d\r\n\r\n%s", a.id, header, len(a.body), a.body)
}

func run(t *testing.T, w Workload) Tally {
	t.Helper()
	tally, err := Run(t.Context(), w)
	require.NoError(t, err)
	c := tally.Total()
	require.Equal(t, c.Sent, c.Answered+c.Failed(), "sent = answered + failed\n%s", tally)
	require.NotContains(t, fmt.Sprint(tally), "%!")
	return tally
}

func upper(b []byte) []byte { return bytes.ToUpper(b) }
