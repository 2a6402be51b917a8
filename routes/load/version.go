package load

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// versionTimeout bounds one question for the version.
const versionTimeout = 5 * time.Second

// Version is the answer of GET /version.
type Version struct {
	Build      string    `json:"build"`
	Go         string    `json:"go"`
	Generation int       `json:"generation"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
}

// AskVersion asks once, on a new connection, which process answers at addr. It takes
// 5 s at most.
func AskVersion(ctx context.Context, addr Addr) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	c, err := dial(addr, deadline)
	if err != nil {
		return Version{}, fmt.Errorf("load: ask version: %w", err)
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	const request = "GET /version HTTP/1.1\r\nHost: %s\r\nUser-Agent: holdfast-load\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(c, fmt.Sprintf(request, hostOf(addr))); err != nil {
		return Version{}, fmt.Errorf("load: ask version: %w", err)
	}
	r, err := readResponse(c.br, nil, maxExtra)
	if err != nil {
		return Version{}, fmt.Errorf("load: ask version: %w", err)
	}
	var v Version
	if err := json.Unmarshal(r.body, &v); err != nil || r.status != 200 {
		return Version{}, fmt.Errorf("load: ask version: status %d, %s", r.status, excerpt(r.body))
	}
	return v, nil
}
