package handoff

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"
)

// The policy of crypto/tls for the keys that it makes itself (crypto/tls:
// ticketKeyRotation, ticketKeyLifetime); it leaves all keys alone as soon as
// SetSessionTicketKeys was called. No ticket lives longer than seven days either
// (RFC 8446 section 4.6.1).
const (
	ticketRotation = 24 * time.Hour
	ticketLifetime = 7 * 24 * time.Hour
	// maxTicketKeys is twice what the policy makes of one process; every handshake
	// with a ticket tries them one after the other.
	maxTicketKeys = 16
)

// Tickets are the keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1)
// that the servers of a process share and pass on to the next generation: clients
// then resume their sessions over an upgrade, and the new process is spared a
// full handshake from each of them in the moment when it is busiest.
//
// A new key is made every 24 hours and one is dropped after seven days, however
// often the process is replaced. Nothing runs in the background: the age is looked
// at when a connection is accepted. Keys exist in memory only, so a stop and a
// start make them anew.
type Tickets struct {
	mu      sync.Mutex // guards what follows
	keys    []ticketKey
	version int                 // counts the changes of keys
	applied map[*tls.Config]int // the version that a configuration has
}

type ticketKey struct {
	Key     []byte    `json:"key"` // 32 bytes
	Created time.Time `json:"created"`
}

// NewTickets returns a set without keys; the first connection makes one, unless
// some came from the previous generation before.
func NewTickets() *Tickets { return &Tickets{applied: map[*tls.Config]int{}} }

// UseTickets has a TLS server use these keys, from [Server.Start] on; call it
// before. It does nothing for a server whose configuration
//
//   - has ticket keys of its own (SetSessionTicketKeys, SessionTicketKey) or
//     disables tickets: the service knows better. Keys that it sets only later are
//     replaced within a day;
//   - has a VerifyPeerCertificate: crypto/tls does not call that for a session
//     that is resumed, so one that another server or an earlier release has let
//     in would pass unseen. VerifyConnection is called, and does not stand in the
//     way.
//
// It cannot see what GetConfigForClient returns: such a configuration uses these
// keys unless it has its own. With WrapSession and UnwrapSession the service
// decides itself what a ticket is.
func (s *Server) UseTickets(t *Tickets) {
	if s.tls && t != nil && !keepsOwnTickets(s.http.TLSConfig) {
		s.tickets = t
	}
}

func keepsOwnTickets(c *tls.Config) bool {
	if c.SessionTicketsDisabled || c.VerifyPeerCertificate != nil {
		return true
	}
	// A configuration that has served before holds a mark in place of a key
	// (crypto/tls: deprecatedSessionTicketKey).
	legacy := c.SessionTicketKey //nolint:staticcheck // deprecated, and still used by some
	if legacy != [32]byte{} && !bytes.HasPrefix(legacy[:], []byte("DEPRECATED")) {
		return true
	}
	// What SetSessionTicketKeys has set is not exported. Where the field has another
	// name nobody can tell, and the keys of a service must not be replaced.
	set := reflect.ValueOf(c).Elem().FieldByName("sessionTicketKeys")
	return !set.IsValid() || set.Kind() != reflect.Slice || set.Len() > 0
}

// State is how the keys travel.
func (t *Tickets) State() State {
	return State{
		Name: ownPrefix + "tls-tickets", Version: 1, own: true,
		Save: t.save, Load: t.load,
		// The old process may have made a key after Save.
		Rest: t.save, Add: t.load,
	}
}

// rotate sees to it that c has the keys that are due.
func (t *Tickets) rotate(c *tls.Config) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 || now.Sub(t.keys[0].Created) >= ticketRotation {
		k := ticketKey{Key: make([]byte, 32), Created: now}
		_, _ = rand.Read(k.Key) // never fails
		t.keep(append(t.keys, k), now)
	}
	if t.applied[c] == t.version {
		return
	}
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		keys[i] = [32]byte(k.Key)
	}
	c.SetSessionTicketKeys(keys)
	t.applied[c] = t.version
}

// keep makes keys, without those whose time is over, the ones in use: the newest
// one encrypts. The caller holds mu.
func (t *Tickets) keep(keys []ticketKey, now time.Time) {
	keys = slices.DeleteFunc(keys, func(k ticketKey) bool { return now.Sub(k.Created) >= ticketLifetime })
	slices.SortStableFunc(keys, func(a, b ticketKey) int { return b.Created.Compare(a.Created) })
	t.keys = keys[:min(len(keys), maxTicketKeys)]
	t.version++
}

func (t *Tickets) save() ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return json.Marshal(t.keys)
}

// load adds the keys of the other generation to those that are here. Usually there
// are none yet: the first connection is still to come.
func (t *Tickets) load(b []byte) error {
	now := time.Now()
	came, err := decodeTicketKeys(b, now)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := slices.Clone(t.keys)
	for _, k := range came {
		if !slices.ContainsFunc(keys, func(o ticketKey) bool { return bytes.Equal(o.Key, k.Key) }) {
			keys = append(keys, k)
		}
	}
	t.keep(keys, now)
	return nil
}

// decodeTicketKeys reads what save wrote. Its errors do not show a key.
func decodeTicketKeys(b []byte, now time.Time) ([]ticketKey, error) {
	var keys []ticketKey
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, errors.New("not a list of ticket keys")
	}
	if len(keys) > maxTicketKeys {
		return nil, fmt.Errorf("%d ticket keys, at most %d are kept", len(keys), maxTicketKeys)
	}
	for i := range keys {
		if len(keys[i].Key) != 32 {
			return nil, fmt.Errorf("ticket key %d has %d bytes instead of 32", i, len(keys[i].Key))
		}
		if keys[i].Created.After(now) {
			keys[i].Created = now // the clock was set back: it must still be replaced in a day
		}
	}
	return keys, nil
}
