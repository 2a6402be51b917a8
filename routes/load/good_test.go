package load

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
)

// accessLog is the handler's, as JSON lines.
type accessLog struct {
	handlers sync.WaitGroup

	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *accessLog) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.text, "{\"level\":\"info\",\"request_id\":%q,\"message\":\"request\"}\n", id)
}

// goodHandler has the demonstration routes, as far as the load asks for them.
func goodHandler(pid, generation int, log *accessLog) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Version{Generation: generation, PID: pid})
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // all, before the answer: net/http is not full duplex
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		_, _ = io.WriteString(w, "slow")
	})
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		for i := 0; i*50 < ms; i++ {
			fmt.Fprintf(w, "chunk %d\n", i)
			w.(http.Flusher).Flush()
			time.Sleep(streamEvery)
		}
		_, _ = io.WriteString(w, "end\n")
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"bytes":%d,"crc32":%d}`, n, sum.Sum32())
	})
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		c, _, _, err := ws.HTTPUpgrader{Header: w.Header()}.Upgrade(r, w)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			data, op, err := wsutil.ReadClientData(c)
			if err != nil || wsutil.WriteServerMessage(c, op, data) != nil {
				return
			}
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if log != nil {
			log.handlers.Add(1)
			defer log.handlers.Done()
			defer log.add(id)
		}
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Pid", strconv.Itoa(pid))
		w.Header().Set("X-Generation", strconv.Itoa(generation))
		mux.ServeHTTP(w, r)
	})
}

type certificates struct {
	server []tls.Certificate
	client *tls.Config
}

// selfSigned borrows httptest's certificate.
func selfSigned(t *testing.T) certificates {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return certificates{s.TLS.Certificates, &tls.Config{RootCAs: pool, ServerName: "example.com", MinVersion: tls.VersionTLS12}}
}

func everyKind(addr Addr) []Workload {
	return []Workload{
		{Kind: Hello, Addr: addr, NewConn: true, Conns: 2, MaxRequests: 20},
		{Kind: Echo, Addr: addr, Conns: 4, MaxRequests: 200},
		{Kind: Echo, Addr: addr, NewConn: true, MaxRequests: 20},
		{Name: "pauses", Kind: Echo, Addr: addr, Conns: 4, Pause: 5 * time.Millisecond, MaxRequests: 40},
		{Name: "pieces", Kind: Echo, Addr: addr, Conns: 2, Split: 5 * time.Millisecond, MaxRequests: 20, Bytes: 5000},
		{Kind: Slow, Addr: addr, Conns: 2, MaxRequests: 4, Duration: 50 * time.Millisecond},
		{Kind: Stream, Addr: addr, MaxRequests: 2, Duration: 120 * time.Millisecond},
		{Kind: Upload, Addr: addr, MaxRequests: 6},
		{Name: "long upload", Kind: Upload, Addr: addr, MaxRequests: 2, Bytes: 100_000, Duration: 100 * time.Millisecond},
		{Kind: WebSocket, Addr: addr, Conns: 2, MaxRequests: 100, Pause: 2 * time.Millisecond},
	}
}

func TestGoodServer(t *testing.T) {
	for _, network := range []string{"tcp", "unix", "tls"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			log := &accessLog{}
			s := httptest.NewUnstartedServer(goodHandler(4711, 7, log))
			defer s.Close()
			addr := Addr{Network: "tcp", Address: s.Listener.Addr().String()}
			switch network {
			case "unix":
				ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
				require.NoError(t, err)
				_ = s.Listener.Close()
				s.Listener = ln
				addr = Addr{Network: "unix", Address: ln.Addr().String()}
				s.Start()
			case "tls":
				s.StartTLS()
				addr.TLS = selfSigned(t).client
			default:
				s.Start()
			}
			workloads := everyKind(addr)
			tally, err := Run(t.Context(), workloads...)
			require.NoError(t, err)
			require.NoError(t, tally.Err())

			var want int64
			for _, w := range workloads {
				c := tally.Workloads[w.withDefaults().Name]
				want += w.MaxRequests
				require.Equal(t, w.MaxRequests, c.Answered, w)
				require.Equal(t, w.MaxRequests, c.Latency[Before].Count())
				connects := int64(max(w.Conns, 1))
				if w.NewConn {
					connects = w.MaxRequests
				}
				require.LessOrEqual(t, c.Connects, connects, "%s", tally)
				require.Zero(t, c.Reconnects+c.Moved+c.Repeated+c.ToldToClose, "%s", tally)
			}
			require.Equal(t, want, tally.Total().Sent)

			s.Close()
			log.handlers.Wait() // each has written its line
			require.NoError(t, tally.OnceIn(strings.NewReader(log.text.String())))
			ids := 0
			for range tally.IDs() {
				ids++
			}
			require.Equal(t, want-100, int64(ids), "WebSocket messages have no ids in a log")
		})
	}
}

// The time that a request was asked to take is not its latency.
func TestLatencyIsBeyondWhatWasAsked(t *testing.T) {
	s := httptest.NewServer(goodHandler(1, 1, nil))
	defer s.Close()
	const asked = 60 * time.Millisecond
	r, err := New(Workload{Kind: Stream, Addr: Addr{Network: "tcp", Address: s.Listener.Addr().String()}, Duration: asked})
	require.NoError(t, err)
	start := time.Now()
	r.workers[0].request()
	elapsed := time.Since(start)
	r.workers[0].hangUp()
	l := r.counters[0].snapshot().Latency[Before]
	require.Equal(t, int64(1), l.Count())
	require.LessOrEqual(t, l.Max(), elapsed-asked)
}

func TestOnceInFindsFault(t *testing.T) {
	tally := Tally{Ranges: []Range{{Prefix: "p", Worker: 3, N: 3, Failed: []int64{1}}}}
	line := func(id string) string { return fmt.Sprintf("{\"message\":\"request\",\"request_id\":%q}\n", id) }
	good := "not json\n" + line("p-3-0") + line("p-3-2") + line("other") + `{"message":"x","request_id":"p-3-0"}` + "\n"
	require.NoError(t, tally.OnceIn(strings.NewReader(good)))
	require.NoError(t, tally.OnceIn(strings.NewReader(good+line("p-3-1"))), "lost, yet carried out once")
	require.ErrorContains(t, tally.OnceIn(strings.NewReader(line("p-3-0"))), "p-3-2 0 times, answered true")
	require.ErrorContains(t, tally.OnceIn(strings.NewReader(good+line("p-3-2"))), "p-3-2 2 times")
	require.ErrorContains(t, tally.OnceIn(strings.NewReader(good+line("p-3-1")+line("p-3-1"))), "p-3-1 2 times, answered false")
}
