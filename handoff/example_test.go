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
	"time"

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

func ExampleParseAddress() {
	for _, text := range []string{"127.0.0.1:8080", "public=:443", "unix:/run/app/app.sock", "8080"} {
		a, err := handoff.ParseAddress(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%q %s %s\n", a.Name, a.Network, a.Addr)
	}
	// Output:
	// "" tcp 127.0.0.1:8080
	// "public" tcp :443
	// "" unix /run/app/app.sock
	// address "8080": want HOST:PORT, :PORT, [IPv6]:PORT or unix:PATH
}

// first is the Inheritance of a process that nobody has started: every socket is new.
// In a service, package upgrade passes the real one.
type first struct{}

func (first) Listener(string, string) (net.Listener, error) { return nil, nil }

func (first) ListenWithCallback(network, addr string, bind func(string, string) (net.Listener, error)) (net.Listener, error) {
	return bind(network, addr)
}

// A server that is asked to let go: the request that runs is answered, and the account
// of its connections balances.
func ExampleServer_Drain() {
	began, finish := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		<-finish
		_, _ = io.WriteString(w, "answered")
	})
	server, err := handoff.NewServer(&http.Server{Handler: handler, ReadHeaderTimeout: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	address, _ := handoff.ParseAddress("127.0.0.1:0")
	set := handoff.NewSet(first{}, nil, handoff.BindOptions{})
	listeners, err := set.Listen(address)
	if err != nil {
		fmt.Println(err)
		return
	}
	server.Start(listeners[0], func(err error) { fmt.Println(err) })

	answer := make(chan string)
	go func() {
		resp, err := http.Get("http://" + listeners[0].Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-began
	ctx := context.Background()
	_ = listeners[0].Park(ctx) // accepts no more; the socket is open
	account := server.Census()
	time.AfterFunc(10*time.Millisecond, func() { close(finish) })
	report := server.Drain(ctx, handoff.DrainOptions{Timeout: 10 * time.Second})
	fmt.Println(<-answer)
	account.Add(server.Settle())
	fmt.Println(len(report.Cut), "cut;", account.Open, "connection; balances:", account.Balances())
	_ = set.Close()
	server.CloseArrivals()
	server.Wait()
	// Output:
	// answered
	// 0 cut; 1 connection; balances: true
}
