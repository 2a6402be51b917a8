package demo

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/gobwas/ws"
)

const (
	// childRole names the environment variable that turns the test binary into a
	// server.
	childRole          = "HOLDFAST_DEMO_CHILD"
	generationVariable = "HOLDFAST_DEMO_GENERATION"
	// lameFor is how long the child answers with "Connection: close" before it calls
	// Shutdown: longer than any request or pause of the demonstration, so that each
	// connection is used once more, and none is left that Shutdown could cut.
	lameFor = 700 * time.Millisecond
)

// runChild is a server for the demonstration. Roles:
//
//	good   loses nothing: it asks every client to reconnect before it goes
//	lossy  drops the connection at each hundredth POST /echo
//	broken its second generation cannot start
func runChild(role string) int {
	fs := flag.NewFlagSet("serve", flag.ExitOnError)
	addr := fs.String("addr", "", "")
	pidFile := fs.String("pid-file", "", "")
	logFile := fs.String("log-file", "", "")
	fs.Bool("identify", false, "")
	fs.String("log-format", "", "")
	_ = fs.Parse(os.Args[2:])
	before, _ := strconv.Atoi(os.Getenv(generationVariable))
	_ = os.Setenv(generationVariable, strconv.Itoa(before+1))
	if role == "broken" && before == 1 {
		return 1
	}
	c := &child{role: role, generation: before + 1, leaving: make(chan struct{})}
	if err := c.serve(*addr, *pidFile, *logFile); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

type child struct {
	role       string
	generation int
	leaving    chan struct{} // closed when another generation serves
	echoed     atomic.Int64
}

func (c *child) serve(addr, pidFile, logFile string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR2, syscall.SIGTERM)
	upg, err := tableflip.New(tableflip.Options{PIDFile: pidFile})
	if err != nil {
		return err
	}
	defer upg.Stop()
	ln, err := upg.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: c.handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	if err := upg.Ready(); err != nil {
		return err
	}
	log, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	_ = json.NewEncoder(log).Encode(map[string]any{"message": "serving", "addrs": []string{listening(ln)}})
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				os.Exit(0) // the load has ended by now
			}
			_ = upg.WaitForParent(context.Background())
			_ = upg.Upgrade()
		}
	}()
	<-upg.Exit()
	close(c.leaving)
	_ = ln.Close()
	time.Sleep(lameFor)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}

func listening(ln net.Listener) string { return "http=" + ln.Addr().String() }

func (c *child) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]int{"generation": c.generation, "pid": os.Getpid()})
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		if c.role == "lossy" && c.echoed.Add(1)%100 == 0 {
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(millis(r))
		_, _ = io.WriteString(w, "slow")
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		for i := range int((millis(r) + 49*time.Millisecond) / (50 * time.Millisecond)) {
			fmt.Fprintf(w, "chunk %d\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "end\n")
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		sum := crc32.NewIEEE()
		n, _ := io.Copy(sum, r.Body)
		fmt.Fprintf(w, `{"bytes":%d,"crc32":%d}`, n, sum.Sum32())
	})
	mux.HandleFunc("GET /ws", c.socket)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		h.Set("X-Pid", strconv.Itoa(os.Getpid()))
		h.Set("X-Generation", strconv.Itoa(c.generation))
		select {
		case <-c.leaving:
			h.Set("Connection", "close")
		default:
		}
		mux.ServeHTTP(w, r)
	})
}

// socket echoes until it is to leave, which it says after a message: the client's
// next one then crosses the Close frame, or comes on another connection.
func (c *child) socket(w http.ResponseWriter, r *http.Request) {
	w.Header().Del("Connection") // the handshake has its own
	conn, _, _, err := ws.HTTPUpgrader{Header: w.Header()}.Upgrade(r, w)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		f, err := ws.ReadFrame(conn)
		if err != nil || f.Header.OpCode == ws.OpClose {
			return
		}
		if ws.WriteFrame(conn, ws.NewTextFrame(ws.UnmaskFrameInPlace(f).Payload)) != nil {
			return
		}
		select {
		case <-c.leaving:
			_ = ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1012, "")))
			_, _ = io.Copy(io.Discard, conn)
			return
		default:
		}
	}
}

func millis(r *http.Request) time.Duration {
	ms, _ := strconv.Atoi(r.FormValue("ms"))
	return time.Duration(ms) * time.Millisecond
}
