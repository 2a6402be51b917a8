//go:build integration && linux

package upgrade_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flock is a number of connections that wait for the next request.
type flock struct {
	t       *testing.T
	address string
	conns   []*net.TCPConn
	over    []bool // has ended, or was told to
}

// herd is what became of them.
type herd struct {
	answered int
	told     int // of these: "Connection: close"
	lost     int // no answer, or a wrong one
	late     int // answered, and not closed when both had said so
}

// newFlock connects, and has each connection used once.
func newFlock(t *testing.T, address string, n int) *flock {
	t.Helper()
	f := &flock{t: t, address: address, conns: make([]*net.TCPConn, n), over: make([]bool, n)}
	for i := range f.conns {
		f.dial(i)
	}
	require.Equal(t, herd{answered: n}, f.ask())
	t.Cleanup(func() {
		for _, c := range f.conns {
			_ = c.Close()
		}
	})
	return f
}

func (f *flock) dial(i int) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.address)
	require.NoError(f.t, err)
	f.conns[i], f.over[i] = c.(*net.TCPConn), false
}

// renew replaces the connections that are over.
func (f *flock) renew() {
	f.t.Helper()
	for i, c := range f.conns {
		if f.over[i] {
			_ = c.Close()
			f.dial(i)
		}
	}
}

// ask sends one request on each, at the same time.
func (f *flock) ask() herd { return f.begin("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "ok")() }

// part sends the last request on each, and waits for the server to close.
func (f *flock) part() herd {
	return f.begin("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "ok")()
}

// begin sends a request on each and returns a function that reads the answers.
func (f *flock) begin(text, body string) (end func() herd) {
	f.t.Helper()
	sent := make([]error, len(f.conns))
	for i, c := range f.conns {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, sent[i] = io.WriteString(c, text) // too short to be half sent
	}
	return func() (h herd) {
		outcomes := make([]herd, len(f.conns))
		var all sync.WaitGroup
		for i, c := range f.conns {
			all.Go(func() {
				if outcomes[i] = (herd{lost: 1}); sent[i] == nil {
					outcomes[i] = answer(c, body)
				}
			})
		}
		all.Wait()
		for i, o := range outcomes {
			h.answered += o.answered
			h.told += o.told
			h.lost += o.lost
			h.late += o.late
			f.over[i] = o.lost+o.told > 0
		}
		return h
	}
}

// answer reads one. Told to close, the server has closed, too.
func answer(c *net.TCPConn, body string) herd {
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		return herd{lost: 1}
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK || string(b) != body {
		return herd{lost: 1}
	}
	h := herd{answered: 1}
	if resp.Close {
		h.told = 1
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			h.late = 1
		}
	}
	return h
}
