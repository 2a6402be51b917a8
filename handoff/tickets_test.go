package handoff

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// testCertificate is one for example.com, with a pool that trusts it.
func testCertificate() ([]tls.Certificate, *x509.CertPool) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return s.TLS.Certificates, pool
}

// serveTickets is serve with TLS and shared keys.
func serveTickets(t *testing.T, c *tls.Config, tickets *Tickets) *rig {
	t.Helper()
	s, err := NewServer(&http.Server{Handler: ok, TLSConfig: c})
	require.NoError(t, err)
	s.UseTickets(tickets)
	set := NewSet(none{}, nil, BindOptions{})
	lns, err := set.Listen(Address{Network: "tcp", Addr: "127.0.0.1:0"})
	require.NoError(t, err)
	s.Start(lns[0], func(err error) { t.Errorf("accept loop: %v", err) })
	t.Cleanup(func() {
		require.NoError(t, set.Close())
		s.Wait()
		s.cut()
	})
	return &rig{s, lns[0]}
}

// ask makes a new connection for one request and tells whether it resumed a session.
func (r *rig) ask(t *testing.T, c *tls.Config) bool {
	t.Helper()
	conn, err := tls.Dial("tcp", r.ln.Addr().String(), c)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	b, err := io.ReadAll(conn) // TLS 1.3: the ticket comes before the response
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(b), "\r\n\r\nok"), "%q", b)
	return conn.ConnectionState().DidResume
}

// clients are n TLS clients with a session cache each.
func clients(n int, version uint16, roots *x509.CertPool) []*tls.Config {
	cs := make([]*tls.Config, n)
	for i := range cs {
		cs[i] = clientTLS(roots)
		cs[i].MinVersion, cs[i].MaxVersion = version, version
		cs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return cs
}

func (r *rig) resumed(t *testing.T, cs []*tls.Config) int {
	t.Helper()
	n := 0
	for _, c := range cs {
		if r.ask(t, c) {
			n++
		}
	}
	return n
}

var tlsVersions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func TestTicketsResumeAcrossAnUpgrade(t *testing.T) {
	certs, roots := testCertificate()
	const n = 100
	for name, version := range tlsVersions {
		for _, travel := range []bool{true, false} {
			old, fresh := NewTickets(), NewTickets()
			a, b := serveTickets(t, tlsConfig(certs), old), serveTickets(t, tlsConfig(certs), fresh)
			cs := clients(n, version, roots)
			first, before := a.resumed(t, cs), a.resumed(t, cs)
			want := 0
			if travel {
				blob, err := old.State().Save()
				require.NoError(t, err)
				require.NoError(t, fresh.State().Load(blob))
				want = n
			}
			across, after := b.resumed(t, cs), b.resumed(t, cs)
			t.Logf("%s, keys travel: %v: resumed %d at first, %d before, %d across, %d after, of %d", name, travel, first, before, across, after, n)
			require.Equal(t, []int{0, n, want, n}, []int{first, before, across, after})
		}
	}
}

// Two servers of one process, and a key that the old process makes after Save.
func TestTicketsAreSharedAndComplete(t *testing.T) {
	certs, roots := testCertificate()
	old, fresh := NewTickets(), NewTickets()
	a, b := serveTickets(t, tlsConfig(certs), old), serveTickets(t, tlsConfig(certs), old)
	c := serveTickets(t, tlsConfig(certs), fresh)
	cs := clients(1, tls.VersionTLS13, roots)
	require.Zero(t, a.resumed(t, cs))
	require.Equal(t, 1, b.resumed(t, cs))

	blob, err := old.State().Save()
	require.NoError(t, err)
	require.NoError(t, fresh.State().Load(blob))
	old.mu.Lock()
	old.keys[0].Created = old.keys[0].Created.Add(-ticketRotation) // a day later
	old.mu.Unlock()
	require.Equal(t, 1, a.resumed(t, cs), "with the key before the last")
	rest, err := old.State().Rest()
	require.NoError(t, err)
	require.NoError(t, fresh.State().Add(rest))
	require.Equal(t, 1, c.resumed(t, cs), "with a ticket of the new key")
	require.Len(t, fresh.keys, 2)
}

// A day later there is a new key, a week later an old one is gone, and upgrades
// do not change that.
func TestTicketsRotate(t *testing.T) {
	certs, roots := testCertificate()
	synctest.Test(t, func(t *testing.T) {
		server, tickets := tlsConfig(certs), NewTickets()
		resumes := func(client *tls.Config) bool {
			a, b := net.Pipe()
			tickets.rotate(server)
			done := make(chan struct{})
			go func() {
				defer close(done)
				s := tls.Server(a, server)
				_, _ = io.WriteString(s, "x") // after the handshake and the ticket
				_ = s.Close()
			}()
			c := tls.Client(b, client)
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Equal(t, "x", string(got))
			<-done
			_ = c.Close()
			return c.ConnectionState().DidResume
		}
		client := clients(1, tls.VersionTLS12, roots)[0]
		require.False(t, resumes(client))
		first := string(tickets.keys[0].Key)
		made, full := map[string]bool{}, 0
		for range 10 * 24 {
			if !resumes(client) {
				full++
			}
			require.LessOrEqual(t, len(tickets.keys), 8)
			made[string(tickets.keys[0].Key)] = true
			// An upgrade each hour.
			b, err := tickets.State().Save()
			require.NoError(t, err)
			tickets, server = NewTickets(), tlsConfig(certs)
			require.NoError(t, tickets.State().Load(b))
			time.Sleep(time.Hour)
		}
		require.Equal(t, 1, full, "a session ends after seven days, and not before")
		require.Len(t, made, 10, "one key a day")
		for _, k := range tickets.keys {
			require.NotEqual(t, first, string(k.Key))
		}
	})
}

func TestTicketsLeaveAServicesOwnAlone(t *testing.T) {
	certs, roots := testCertificate()
	verify := func([][]byte, [][]*x509.Certificate) error { return nil }
	for name, tt := range map[string]struct {
		change func(*tls.Config)
		uses   bool // the shared keys
		shares bool // resumes at another server of the same configuration
	}{
		"SetSessionTicketKeys":   {func(c *tls.Config) { c.SetSessionTicketKeys([][32]byte{{1}}) }, false, true},
		"SessionTicketKey":       {func(c *tls.Config) { c.SessionTicketKey = [32]byte{1} }, false, true}, //nolint:staticcheck // some do
		"SessionTicketsDisabled": {func(c *tls.Config) { c.SessionTicketsDisabled = true }, false, false},
		"VerifyPeerCertificate":  {func(c *tls.Config) { c.VerifyPeerCertificate = verify }, false, false},
		"none of its own":        {func(*tls.Config) {}, true, false},
		"has served before":      {func(c *tls.Config) { _, _ = c.DecryptTicket(nil, tls.ConnectionState{}) }, true, false},
	} {
		tickets := NewTickets()
		c := tlsConfig(certs)
		tt.change(c)
		a, b := serveTickets(t, c, tickets), serveTickets(t, c, NewTickets())
		cs := clients(10, tls.VersionTLS13, roots)
		require.Zero(t, a.resumed(t, cs), name)
		want := 0
		if tt.shares {
			want = len(cs)
		}
		require.Equal(t, want, b.resumed(t, cs), name)
		require.Equal(t, tt.uses, len(tickets.keys) > 0, name)
	}
	s, err := NewServer(&http.Server{})
	require.NoError(t, err)
	s.UseTickets(NewTickets())
	require.Nil(t, s.tickets, "no TLS")
}

func TestTicketsThatAreDamaged(t *testing.T) {
	certs, roots := testCertificate()
	tickets := NewTickets()
	r := serveTickets(t, tlsConfig(certs), tickets)
	load := tickets.State().Load
	many, err := json.Marshal(make([]ticketKey, maxTicketKeys+1))
	require.NoError(t, err)
	for text, blob := range map[string]string{
		"not a list": "", "not a list of": "{", "not a list of ticket": `[{"key":7}]`, "ticket key 0 has 3 bytes": `[{"key":"AAAA"}]`, "17 ticket keys": string(many),
	} {
		require.ErrorContains(t, load([]byte(blob)), text)
	}
	require.NoError(t, load([]byte("null")), "from a process that never had a TLS connection")
	cs := clients(1, tls.VersionTLS13, roots)
	require.Zero(t, r.resumed(t, cs))
	require.Equal(t, 1, r.resumed(t, cs), "with fresh keys")

	// Of a clock that was ahead: not used for ever.
	future, err := json.Marshal([]ticketKey{{Key: make([]byte, 32), Created: time.Now().Add(1000 * time.Hour)}})
	require.NoError(t, err)
	require.NoError(t, load(future))
	require.WithinDuration(t, time.Now(), tickets.keys[0].Created, time.Minute)
}

// Keys arrive while connections are made.
func TestTicketsChangeUnderLoad(t *testing.T) {
	certs, roots := testCertificate()
	tickets := NewTickets()
	r := serveTickets(t, tlsConfig(certs), tickets)
	var group sync.WaitGroup
	for _, c := range clients(4, tls.VersionTLS13, roots) {
		group.Go(func() {
			for range 20 {
				_ = r.ask(t, c)
			}
		})
	}
	for range 40 {
		other := NewTickets()
		other.rotate(&tls.Config{}) //nolint:gosec // only to make a key
		b, err := other.State().Save()
		require.NoError(t, err)
		require.NoError(t, tickets.State().Load(b))
	}
	group.Wait()
	require.Len(t, tickets.keys, maxTicketKeys)
}

func FuzzDecodeTicketKeys(f *testing.F) {
	f.Add([]byte(`[{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","created":"2026-01-02T03:04:05Z"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tickets := NewTickets()
		if tickets.load(b) == nil {
			tickets.rotate(&tls.Config{}) //nolint:gosec // takes the keys, serves nothing
		}
	})
}

// What the look at the keys' age costs each accepted connection.
func BenchmarkTickets(b *testing.B) {
	tickets, c := NewTickets(), &tls.Config{} //nolint:gosec // serves nothing
	for b.Loop() {
		tickets.rotate(c)
	}
}
