package health

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
)

// recorder is the response writer of a request without a connection. It has what
// Gin takes for granted in the writer below its own (http.Hijacker,
// http.CloseNotifier), so that a route which needs them fails and does not panic.
type recorder struct {
	header http.Header
	sent   http.Header // the header as it was when the status was written
	status int         // 0: not written yet
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status != 0 || (status < 200 && status != http.StatusSwitchingProtocols) {
		return // written already, or informational: the real one is to come
	}
	r.status, r.sent = status, r.header.Clone()
}

func (r *recorder) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body.Write(b[:min(len(b), max(0, maxBody-r.body.Len()))])
	return len(b), nil
}

func (r *recorder) WriteString(s string) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body.WriteString(s[:min(len(s), max(0, maxBody-r.body.Len()))])
	return len(s), nil
}

func (r *recorder) Flush() { r.WriteHeader(http.StatusOK) }

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("health: a probe has no connection to hijack: give it an address, at=HOST:PORT")
}

// CloseNotify gives a channel that is never ready: the request's context says when
// the probe is over.
func (r *recorder) CloseNotify() <-chan bool { return nil }
