package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxBody is how much of a body is kept to look for [HTTP].Body; the rest is read
// and dropped.
const maxBody = 256 << 10

// HTTP is a check that makes one request, of the process's own handler without any
// socket, or of an address. Redirects are not followed.
//
// The request carries "User-Agent: holdfast-probe". One that does not go through a
// socket is not counted by [Window.Handler]; it comes from 127.0.0.1.
type HTTP struct {
	Method string // default GET
	Path   string // with the query, as in a request line: "/readyz?full=1"

	// At is the address to ask, "HOST:PORT" or "unix:PATH", in plain HTTP. Default:
	// the process's own handler. Without a host, or with that of all addresses, it is
	// this machine's.
	At string

	// TLS is how At is asked over TLS; the text form has no word for it. Default: not.
	TLS *tls.Config

	// From and To are the lowest and the highest status that is a success. Default
	// 200 to 399.
	From, To int

	// Body must stand somewhere in the first 256 KiB of the body. Default: any.
	Body string

	// Header are response headers, each of which must have exactly this value.
	Header map[string]string
}

// String gives the text form.
func (h *HTTP) String() string {
	parts := []string{"http", h.method(), quote(h.Path)}
	if h.At != "" {
		parts = append(parts, quote("at="+h.At))
	}
	switch from, to := h.statuses(); {
	case h.From == 0 && h.To == 0:
	case from == to:
		parts = append(parts, fmt.Sprintf("status=%d", from))
	default:
		parts = append(parts, fmt.Sprintf("status=%d..%d", from, to))
	}
	if h.Body != "" {
		parts = append(parts, quote("body~"+h.Body))
	}
	for _, k := range slices.Sorted(maps.Keys(h.Header)) {
		parts = append(parts, quote("header:"+k+"="+h.Header[k]))
	}
	return strings.Join(parts, " ")
}

func (h *HTTP) method() string {
	if h.Method == "" {
		return http.MethodGet
	}
	return h.Method
}

func (h *HTTP) statuses() (from, to int) {
	if h.From == 0 && h.To == 0 {
		return 200, 399
	}
	return h.From, max(h.From, h.To)
}

// obeys: a handler is somebody's code, a client is net/http's.
func (h *HTTP) obeys() bool { return h.At != "" }

func (h *HTTP) check(ctx context.Context, self http.Handler) error {
	if _, err := url.ParseRequestURI(h.Path); err != nil || !strings.HasPrefix(h.Path, "/") {
		return fmt.Errorf("%q is not a path", h.Path)
	}
	if h.At != "" {
		return h.askAddress(ctx)
	}
	if self == nil {
		return errors.New("there is no handler to ask: give the probe an address, at=HOST:PORT")
	}
	req, err := h.request(context.WithValue(ctx, probeKey{}, true), "http://localhost")
	if err != nil {
		return err
	}
	// What net/http's server fills in, and handlers rely on.
	req.Body, req.RequestURI, req.RemoteAddr = http.NoBody, h.Path, "127.0.0.1:0"
	rec := &recorder{header: http.Header{}}
	self.ServeHTTP(rec, req)
	rec.WriteHeader(http.StatusOK)
	return h.judge(rec.status, rec.sent, rec.body.String())
}

func (h *HTTP) askAddress(ctx context.Context) error {
	transport := &http.Transport{
		DisableKeepAlives: true, // nothing stays open between two tries
		TLSClientConfig:   h.TLS,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, h.At) },
	}
	client := http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	base := "http://" + hostOf(h.At)
	if h.TLS != nil {
		base = "https://" + hostOf(h.At)
	}
	req, err := h.request(ctx, base)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the method and the URL are in the probe's name
		}
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return h.judge(res.StatusCode, res.Header, string(body))
}

// hostOf is the Host of a request to an address.
func hostOf(at string) string {
	if strings.HasPrefix(at, unixPrefix) {
		return "localhost"
	}
	host, port, err := net.SplitHostPort(at)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return at
}

func (h *HTTP) request(ctx context.Context, base string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, h.method(), base+h.Path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "holdfast-probe")
	return req, nil
}

func (h *HTTP) judge(status int, header http.Header, body string) error {
	from, to := h.statuses()
	if status < from || status > to {
		want := fmt.Sprintf("%d..%d", from, to)
		if from == to {
			want = fmt.Sprint(from)
		}
		return fmt.Errorf("status %d, want %s%s", status, want, excerpt(body))
	}
	for _, k := range slices.Sorted(maps.Keys(h.Header)) {
		if got := strings.Join(header.Values(k), ", "); got != h.Header[k] {
			return fmt.Errorf("header %s is %q, want %q", k, got, h.Header[k])
		}
	}
	if !strings.Contains(body, h.Body) {
		return fmt.Errorf("the body lacks %q%s", h.Body, excerpt(body))
	}
	return nil
}

// excerpt is the beginning of a body, which often says why.
func excerpt(body string) string {
	body = strings.Join(strings.Fields(strings.ToValidUTF8(body, "")), " ")
	if body == "" {
		return ""
	}
	if len(body) > 120 {
		body = strings.ToValidUTF8(body[:120], "") + "…"
	}
	return ": " + body
}

// probeKey marks the context of a request that a probe makes of the own handler.
type probeKey struct{}

func fromProbe(r *http.Request) bool { return r.Context().Value(probeKey{}) != nil }
