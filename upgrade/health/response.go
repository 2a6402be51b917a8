package health

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"
)

// buffered is what net/http holds back of an answer: 2 KiB of body, to find its
// length, and 4 KiB for the connection (bufferBeforeChunkingSize and newBufioWriterSize
// in net/http/server.go). HTTP/2 holds 4 KiB.
const buffered = 4 << 10

// response is the writer that a measured handler gets. The methods that net/http's
// writers have in common are here; the others in http1 and http2.
type response struct {
	http.ResponseWriter
	request *http.Request
	window  *Window
	shard   *shard
	h1      http1
	h2      http2

	start    time.Duration // since the window's epoch
	status   int           // 0: not written yet
	written  int64         // of the body, by Write
	left     bool          // it has been counted
	failed   bool          // as a failure
	returned bool          // the handler has
	panicked bool          // says a middleware that recovered
	hijacked bool
}

// http1 and http2 add what only one protocol has. A handler may ask by type
// assertion, and must not be told that it can hijack where it cannot.
type http1 struct{ *response }

type http2 struct{ *response }

// writer picks the form that can do what the writer below can.
func (m *response) writer() http.ResponseWriter {
	switch m.ResponseWriter.(type) {
	case http.Hijacker:
		return &m.h1
	case http.Pusher:
		return &m.h2
	}
	return m
}

// Unwrap is for [http.ResponseController].
func (m *response) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// MarkPanic is for [MarkPanic].
func (m *response) MarkPanic() { m.panicked = true }

func (m *response) WriteHeader(status int) {
	// 1xx are on the way to the real one, except 101, which is the last.
	if m.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

// writes is called before n bytes are written: that may have to wait for the client.
func (m *response) writes(n int) {
	if m.status == 0 {
		m.status = http.StatusOK
	}
	if m.written += int64(n); m.written > buffered {
		m.leaves()
	}
}

func (m *response) Write(b []byte) (int, error) {
	m.writes(len(b))
	return m.ResponseWriter.Write(b)
}

func (m *response) WriteString(s string) (int, error) {
	m.writes(len(s))
	return io.WriteString(m.ResponseWriter, s)
}

func (m *response) Flush() { _ = m.FlushError() }

func (m *response) FlushError() error {
	m.leaves()
	return http.NewResponseController(m.ResponseWriter).Flush()
}

// CloseNotify is for Gin, which takes it for granted in the writer below its own.
func (m *response) CloseNotify() <-chan bool {
	//nolint:staticcheck // deprecated, and still part of gin.ResponseWriter
	if n, ok := m.ResponseWriter.(http.CloseNotifier); ok {
		return n.CloseNotify()
	}
	return nil
}

func (m *http1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := m.ResponseWriter.(http.Hijacker).Hijack()
	if err == nil {
		m.hijacked = true
		if m.status == 0 {
			m.status = http.StatusSwitchingProtocols
		}
		m.leaves()
	}
	return c, rw, err
}

// ReadFrom keeps sendfile(2): net/http's writer has it.
func (m *http1) ReadFrom(r io.Reader) (int64, error) {
	if m.status == 0 {
		m.status = http.StatusOK
	}
	m.leaves()
	if rf, ok := m.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{m.ResponseWriter}, r)
}

func (m *http2) Push(target string, opts *http.PushOptions) error {
	return m.ResponseWriter.(http.Pusher).Push(target, opts)
}
