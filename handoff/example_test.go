package handoff_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/holdfast-go/holdfast/handoff"
)

// A protocol of lines on a hijacked connection, each answered with its number. It
// moves to the next process between two lines, and the count goes on there: the same
// function serves a connection from its first line, and one that has arrived.
func ExampleMovable() {
	serve := func(conn net.Conn, n uint64) error {
		boundary := handoff.Movable(conn, handoff.Mover{
			Name:   "lines",
			Freeze: func() ([]byte, error) { return binary.BigEndian.AppendUint64(nil, n), nil },
		})
		lines := bufio.NewReader(conn)
		for {
			if lines.Buffered() == 0 { // or there is another line to read
				if err := boundary.Wait(); err != nil {
					return err // ErrMoved: not a word to the client
				}
			}
			line, err := lines.ReadString('\n')
			if err != nil {
				return err
			}
			n++
			if _, err := fmt.Fprintf(conn, "%d %s", n, line); err != nil {
				return err
			}
		}
	}

	http.HandleFunc("/lines", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }() // harmless after a move
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n")
		if err := serve(conn, 0); errors.Is(err, handoff.ErrMoved) {
			return
		}
	})
	// To be registered under the same name: (*upgrade.Process).Resume("lines", resume).
	var resume handoff.Resume = func(_ context.Context, conn net.Conn, state []byte) {
		_ = serve(conn, binary.BigEndian.Uint64(state))
	}
	_ = resume
}
