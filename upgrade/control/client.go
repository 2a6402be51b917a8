package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade/report"
)

// ErrNoService is in the error when nobody listens at the address.
var ErrNoService = errors.New("no service listens there")

// Error is a refusal of the service.
type Error struct {
	Code    string `json:"code"` // for programs
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Client talks to the admin listener of a service. It makes a connection for each
// call, so each reaches the generation that serves then.
type Client struct {
	address handoff.Address
	token   string
	http    *http.Client
}

// NewClient makes a Client. token is for changes over TCP.
func NewClient(a handoff.Address, token string) *Client {
	var d net.Dialer
	return &Client{address: a, token: token, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, a.Network, a.Addr)
		},
	}}}
}

// Status asks for the status.
func (c *Client) Status(ctx context.Context) (report.Status, error) {
	var s report.Status
	return s, c.get(ctx, "/status", &s)
}

// Reports asks for the last upgrades, oldest first.
func (c *Client) Reports(ctx context.Context) ([]report.Outcome, error) {
	var list []report.Outcome
	return list, c.get(ctx, "/reports", &list)
}

// Upgrade asks for an upgrade and waits for its outcome, which may be a failure
// without an error. An error says that there is no outcome to tell.
func (c *Client) Upgrade(ctx context.Context, force bool) (report.Outcome, error) {
	for {
		var o report.Outcome
		err := c.ask(ctx, url.Values{"force": {boolean(force)}}, &o)
		var refused *Error
		if errors.As(err, &refused) && refused.Code == codePassedOn {
			// By a process that cannot move our connection: the next one listens by now.
			continue
		}
		return o, err
	}
}

// Request asks for an upgrade and does not wait for it.
func (c *Client) Request(ctx context.Context, force bool) (report.Status, error) {
	var s report.Status
	return s, c.ask(ctx, url.Values{"force": {boolean(force)}, "wait": {"0"}}, &s)
}

func boolean(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (c *Client) ask(ctx context.Context, q url.Values, v any) error {
	resp, err := c.do(ctx, http.MethodPost, "/upgrade?"+q.Encode())
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decode(resp, v)
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	resp, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return decode(resp, v)
}

func (c *Client) do(ctx context.Context, method, path string) (*http.Response, error) {
	return c.send(ctx, method, path, http.NoBody)
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	host := "holdfast"
	if c.address.Network == "tcp" {
		host = c.address.Addr
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL is not the reader's
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s: %w: is the service running?", c.address, ErrNoService)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: not permitted: be the service's user or root", c.address)
	}
	return nil, fmt.Errorf("%s: %w", c.address, err)
}

// decode reads an answer: a value, or an [*Error].
func decode(resp *http.Response, v any) error {
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("the answer was cut short: %w", err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusConflict {
		if err := json.Unmarshal(b, v); err != nil {
			return fmt.Errorf("no answer of a holdfast service: %w", err)
		}
		return nil
	}
	var f failure
	if err := json.Unmarshal(b, &f); err != nil || f.Error.Code == "" {
		return fmt.Errorf("no answer of a holdfast service: %s: %s", resp.Status, bytes.TrimSpace(b))
	}
	return &f.Error
}

// Events gives every event of one generation to handle, until the stream ends, which
// is no error: the next generation has it.
func (c *Client) Events(ctx context.Context, handle func(report.Event) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/events")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return decode(resp, new(report.Event))
	}
	dec := json.NewDecoder(resp.Body)
	for {
		var e report.Event
		if err := dec.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return nil // that generation is done, in good order or not
		}
		if err := handle(e); err != nil {
			return err
		}
	}
}

const (
	// watchPause is how long Watch waits before it looks again for a service that is
	// not there.
	watchPause = 50 * time.Millisecond
	// watchPatience is how long it looks.
	watchPatience = 5 * time.Second
)

// Watch gives every event to handle, from one generation to the next. It returns
// when ctx ends, when handle fails, or when nobody listens any more for a while.
func (c *Client) Watch(ctx context.Context, handle func(report.Event) error) error {
	heard, stops := time.Time{}, false
	for {
		err := c.Events(ctx, func(e report.Event) error {
			heard, stops = time.Now(), e.Status.State == "stopping" || e.Status.State == "stopped"
			return handle(e)
		})
		if err == nil {
			continue
		}
		if !errors.Is(err, ErrNoService) || stops || time.Since(heard) > watchPatience {
			return err
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
