package handoff

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Resume goes on with a hijacked connection that another process has handed over,
// from the state that [Mover].Freeze returned there. It owns the connection, which
// is closed when it returns. ctx is good for [Leaving]. A panic closes the
// connection and is logged, as net/http does for a handler.
type Resume func(ctx context.Context, conn net.Conn, state []byte)

// Receiver takes the connections that a [Sender] offers.
type Receiver struct {
	servers map[string]*Server // by the name of the listener
	resume  map[string]Resume  // by the name of the handler
	highest int                // descriptors above this are left to new connections
}

// fileReserve is how many descriptors, at most a quarter of what the limit
// permits, are kept free for what the service itself opens: connections that move
// must not starve it.
const fileReserve = 256

// NewReceiver makes a receiver for the servers, each under the names of its
// listeners, and for the handlers that can resume hijacked connections.
func NewReceiver(servers map[string]*Server, resume map[string]Resume) *Receiver {
	r := &Receiver{servers: servers, resume: resume, highest: 1 << 30}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < 1<<30 {
		r.highest = int(lim.Cur) - min(fileReserve, int(lim.Cur)/4)
	}
	return r
}

// take adopts what an Offer carries, acknowledges it on l, and only then lets the
// servers read. It returns how many connections are ours now.
func (r *Receiver) take(l *Link, m Message) (int, error) {
	var adopted []*guest
	ack := Message{Type: Ack, Seq: m.Seq}
	for i, it := range m.Items {
		if i >= len(m.files) {
			break // the kernel could not install them all
		}
		fd := m.files[i]
		g, err := r.adopt(it, fd)
		if err != nil {
			_ = unix.Close(fd)
			continue
		}
		ack.take(i)
		adopted = append(adopted, g)
	}
	for _, fd := range m.files[min(len(m.files), len(m.Items)):] {
		_ = unix.Close(fd) // nobody has said what these are
	}
	if err := l.Send(ack); err != nil {
		for _, g := range adopted {
			_ = g.conn.socket.Close() // read by nobody: they are still the sender's
			g.conn.server.arrivals.release()
		}
		return 0, fmt.Errorf("handoff: take connections: %w", err)
	}
	for _, g := range adopted {
		g.enter()
	}
	return len(adopted), nil
}

// logf writes where the servers do.
func (r *Receiver) logf(format string, args ...any) {
	for _, s := range r.servers {
		s.logf(format, args...)
		return
	}
}

// guest is a connection between its arrival and its acknowledgement.
type guest struct {
	conn   *Conn
	item   Item
	resume Resume
}

var errNoHome = errors.New("handoff: nobody here serves it")

// adopt prepares one connection without reading from it. On an error the
// descriptor is the caller's.
func (r *Receiver) adopt(it Item, fd int) (*guest, error) {
	s := r.servers[it.Listener]
	if s == nil || s.tls || s.leaving.Load() || fd > r.highest {
		return nil, errNoHome
	}
	now := time.Now()
	c := &Conn{server: s, listener: it.Listener}
	g := &guest{conn: c, item: it}
	switch it.Kind {
	case kindHijacked:
		if g.resume = r.resume[it.Handler]; g.resume == nil {
			return nil, errNoHome
		}
		c.state = http.StateHijacked
	case kindFresh, kindIdle:
		c.arrival = &arrival{prefix: it.Prefix, began: now}
		if it.Left > 0 {
			c.arrival.until = now.Add(it.Left)
		}
		if it.Kind == kindIdle {
			c.arrival.blank = maxBlank
		}
	default:
		return nil, errNoHome // of a later version
	}
	if !s.arrivals.reserve() {
		return nil, errNoHome // it is about to stop
	}
	sock, err := newInherited(fd, address(it.Network, it.Local), address(it.Network, it.Remote))
	if err != nil {
		s.arrivals.release()
		return nil, err
	}
	c.socket = sock
	return g, nil
}

// enter gives the connection to its server.
func (g *guest) enter() {
	s := g.conn.server
	conn := s.wrap(g.conn)
	if d := g.conn.readDeadline(); !d.IsZero() {
		_ = g.conn.socket.SetReadDeadline(d)
	}
	if g.resume == nil {
		s.arrivals.put(conn)
		return
	}
	s.arrivals.release() // it is among the server's connections
	go s.resumeHijacked(conn, g.resume, g.item.State)
}

// resumeHijacked runs a handler's second life. Its end is that of the connection,
// for which [Server.Drain] waits.
func (s *Server) resumeHijacked(conn net.Conn, resume Resume, state []byte) {
	defer func() {
		if v := recover(); v != nil && v != any(http.ErrAbortHandler) {
			s.logf("handoff: panic resuming %v: %v\n%s", conn.RemoteAddr(), v, debug.Stack())
		}
		_ = conn.Close()
	}()
	ctx := context.WithValue(context.Background(), connKey{}, tracked(conn))
	resume(ctx, conn, state)
}
