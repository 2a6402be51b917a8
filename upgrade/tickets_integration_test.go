//go:build integration

package upgrade_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
)

// rate counts new connections and those that resumed a session.
type rate struct{ resumed, made int }

func (r rate) String() string { return fmt.Sprintf("%d/%d", r.resumed, r.made) }

// resumers are TLS clients, each with a session cache of its own.
type resumers []*tls.Config

func newResumers(n int, version uint16, client *tls.Config) resumers {
	rs := make(resumers, n)
	for i := range rs {
		rs[i] = client.Clone()
		rs[i].MinVersion, rs[i].MaxVersion = version, version
		rs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return rs
}

// connect makes one new connection for one request.
func connect(ctx context.Context, addr string, c *tls.Config) (resumed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	b, err := io.ReadAll(conn) // TLS 1.3: the ticket comes before the response
	if err == nil && !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		err = fmt.Errorf("answer %.40q", b)
	}
	return conn.(*tls.Conn).ConnectionState().DidResume, err
}

func (rs resumers) each(t *testing.T, addr string) (r rate) {
	t.Helper()
	for _, c := range rs {
		resumed, err := connect(context.Background(), addr, c)
		require.NoError(t, err)
		r.made++
		if resumed {
			r.resumed++
		}
	}
	return r
}

// TestTLSSessionsResumeAcrossUpgrades makes new connections before, during and
// after upgrades. Every one but a client's first resumes its session.
func TestTLSSessionsResumeAcrossUpgrades(t *testing.T) {
	const n = 50
	dir := t.TempDir()
	cert, key, client := certificate(t, dir)
	cmd := load.Serve(build(t, "."), dir, "127.0.0.1:0")
	cmd.Args = append(cmd.Args, "--tls-cert", cert, "--tls-key", key)
	cmd.TLS = client
	p := start(t, cmd)
	addr := p.Addr("https").Address
	versions := map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

	steady, busy := map[string]resumers{}, map[string]resumers{}
	for name, v := range versions {
		steady[name], busy[name] = newResumers(n, v, client), newResumers(2, v, client)
		require.Equal(t, rate{0, n}, steady[name].each(t, addr), "%s: a first connection has nothing to resume", name)
		busy[name].each(t, addr)
	}
	full := rate{n, n}
	for i := 1; i <= 3; i++ {
		before, during := map[string]rate{}, map[string]rate{}
		for name := range versions {
			before[name] = steady[name].each(t, addr)
		}
		// From before the signal until the old generation has ended.
		ctx, cancel := context.WithCancel(context.Background())
		var mu sync.Mutex
		var group sync.WaitGroup
		for name, rs := range busy {
			for _, c := range rs {
				group.Go(func() {
					for ctx.Err() == nil {
						resumed, err := connect(context.Background(), addr, c)
						if err != nil {
							t.Errorf("upgrade %d, %s: %v", i, name, err)
							return
						}
						mu.Lock()
						r := during[name]
						r.made++
						if resumed {
							r.resumed++
						}
						during[name] = r
						mu.Unlock()
					}
				})
			}
		}
		u := up(t, p)
		gone(t, p, u.OldPID)
		cancel()
		group.Wait()

		for name := range versions {
			across := steady[name].each(t, addr) // with tickets of the old generation
			after := steady[name].each(t, addr)
			t.Logf("upgrade %d, %s: resumed %v before, %v during, %v across, %v after", i, name, before[name], during[name], across, after)
			require.Equal(t, full, before[name], name)
			require.NotZero(t, during[name].made, name)
			require.Equal(t, during[name].made, during[name].resumed, name)
			require.Equal(t, full, across, name)
			require.Equal(t, full, after, name)
		}
	}
	stop(t, p)
}
