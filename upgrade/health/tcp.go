package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
)

const unixPrefix = "unix:"

// TCP is a check that connects, and closes at once.
type TCP struct {
	Addr string // "HOST:PORT" or "unix:PATH"
}

// String gives the text form.
func (t *TCP) String() string { return "tcp " + quote(t.Addr) }

func (*TCP) obeys() bool { return true }

func (t *TCP) check(ctx context.Context, _ http.Handler) error {
	c, err := dial(ctx, t.Addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// dial connects to "HOST:PORT" or "unix:PATH". The caller closes.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		return d.DialContext(ctx, "unix", path)
	}
	return d.DialContext(ctx, "tcp", addr)
}

// checkAddr refuses what dial could never reach.
func checkAddr(addr string) error {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		if path == "" {
			return errors.New("unix: lacks the path")
		}
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		if n, bad := strconv.ParseUint(port, 10, 16); bad == nil && n > 0 {
			return nil
		}
	}
	return fmt.Errorf("%q is not an address: want HOST:PORT or unix:PATH", addr)
}
