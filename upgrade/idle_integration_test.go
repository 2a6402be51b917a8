//go:build integration

package upgrade_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load"
	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// TestI3_TenThousandIdleConnectionsMove keeps ten thousand connections silent
// through the upgrades, beside a load. Then each one is used.
func TestI3_TenThousandIdleConnectionsMove(t *testing.T) {
	const idle, upgrades = 10_000, 5
	raiseFileLimit(t, idle+1000)
	p := start(t, load.Serve(build(t, "."), t.TempDir(), "127.0.0.1:0"))
	addr := p.Addr("http").Address
	conns := make([]*kept, idle)
	each := func(do func(i int) error) {
		t.Helper()
		var group sync.WaitGroup
		errs := make([]error, 32)
		for w := range errs {
			group.Go(func() {
				for i := w; i < idle && errs[w] == nil; i += len(errs) {
					errs[w] = do(i)
				}
			})
		}
		group.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	t.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				_ = c.Close()
			}
		}
	})
	each(func(i int) error {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = &kept{c, bufio.NewReaderSize(c, 512)}
		if i%2 == 0 {
			return nil // not a byte before the first upgrade
		}
		_, err = conns[i].ask(i)
		return err
	})

	r := loadtest.Start(t, load.Workload{Kind: load.Echo, Conns: 64, Addr: p.Addr("http")})
	loadtest.Flowing(t, r, 64)
	for n := range upgrades {
		r.SetPhase(load.During)
		u := up(t, p)
		gone(t, p, u.OldPID)
		r.SetPhase(load.After)
		loadtest.Flowing(t, r, 64)
		if n == 0 {
			// Those that have been silent so far: a server waits ten seconds for the
			// first request, and two minutes for the next one.
			each(func(i int) error {
				if i%2 != 0 {
					return nil
				}
				_, err := conns[i].ask(i)
				return err
			})
		}
	}
	tally := r.Stop()
	require.NoError(t, tally.Err())
	for _, c := range tally.Workloads {
		require.Zero(t, c.Reconnects+c.ToldToClose)
		t.Logf("%d upgrades with %d idle connections: sent %d, failed %d, told to close %d; p99 during the upgrades %s, after them %s",
			upgrades, idle, c.Sent, c.Failed(), c.ToldToClose, c.Latency[load.During].Quantile(0.99), c.Latency[load.After].Quantile(0.99))
	}
	serving := fmt.Sprint(p.Version().PID)
	each(func(i int) error {
		pid, err := conns[i].ask(i)
		if err == nil && pid != serving {
			err = fmt.Errorf("connection %d is answered by pid %s, and %s serves", i, pid, serving)
		}
		return err
	})
	stop(t, p)
}

// kept is a connection that is used now and then, and never replaced.
type kept struct {
	net.Conn
	br *bufio.Reader
}

// ask sends a request, and returns the pid of the process that has answered it
// rightly.
func (c *kept) ask(i int) (pid string, err error) {
	body := fmt.Sprintf("connection %d", i)
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return "", fmt.Errorf("connection %d: %w", i, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", err
	case string(b) != body || resp.Close:
		return "", fmt.Errorf("connection %d: answered %q, close %t", i, b, resp.Close)
	}
	return resp.Header.Get("X-Pid"), nil
}

// raiseFileLimit makes room for descriptors, here and in the servers started
// from here.
func raiseFileLimit(t *testing.T, n uint64) {
	t.Helper()
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	if lim.Cur >= n && lim.Max >= n {
		return
	}
	old := lim
	lim.Cur, lim.Max = max(lim.Cur, n), max(lim.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Skipf("the limit of open files is %d, %d are needed: %v", old.Max, n, err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}
