package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// ProtocolVersions are the versions of the link's messages that this build
// speaks, the best one first. Version 1 has hello, committed, failed and released;
// version 2 adds everything that moves.
var ProtocolVersions = []int{2, 1}

// movingVersion is the first version in which connections and state move.
const movingVersion = 2

// MessageType names a message on the link.
type MessageType string

// The messages. A receiver ignores types that it does not know.
const (
	// Hello is the first message in each direction; it carries Hello fields.
	Hello MessageType = "hello"
	// Committed tells the old process that the new one serves, owns the PID file
	// and has told the service manager: the old one may go.
	Committed MessageType = "committed"
	// Failed tells the old process why the new one is about to exit.
	Failed MessageType = "failed"
	// Released tells the new process that the old one has ended its exclusive work.
	Released MessageType = "released"

	// WantState asks the old process for its blobs; it answers with a StateBlob for
	// each and then StateEnd.
	WantState MessageType = "want-state"
	// StateBlob is one named blob; a memfd with its content travels along.
	StateBlob MessageType = "state"
	// StateEnd ends the answer to WantState.
	StateEnd MessageType = "state-end"
	// Relay is between two halves of the service's own code.
	Relay MessageType = "relay"

	// Takeover tells the old process that the new one accepts: it is to park its
	// accept loops and to hand over its connections.
	Takeover MessageType = "takeover"
	// Offer carries descriptors of connections, one for each of its Items.
	Offer MessageType = "offer"
	// Ack answers the Offer with the same Seq: a bit for each item that was taken.
	Ack MessageType = "ack"
	// Over tells the new process that every connection which could move at once has
	// been offered and answered: it may commit.
	Over MessageType = "over"
	// GiveBack tells the old process that the new one does not commit and wants to
	// return what it has taken.
	GiveBack MessageType = "give-back"
	// Resumed answers GiveBack: the old process accepts again and takes offers.
	Resumed MessageType = "resumed"
	// Phase tells the old process which phase the new one is in, and in one that has
	// a judge, again and again that it lives. The old one answers with its Figures.
	Phase MessageType = "phase"
	// Figures are what the old process's traffic looks like.
	Figures MessageType = "figures"
	// Abort tells the new process that the service is to stop: it gives back what it
	// has and exits.
	Abort MessageType = "abort"
	// Report is the old process's view of the upgrade after the commit, or how one of the
	// two is, told to the other: the old one while it drains, the new one until then.
	Report MessageType = "report"
	// Hurry asks the old process to end its drain soon.
	Hurry MessageType = "hurry"
	// Metrics are what the sender has counted, as a blob in a memfd; the receiver adds
	// them to its own. It is sent only to a process whose hello says that it takes them.
	Metrics MessageType = "metrics"
	// Reopen tells the other process that the log file was moved away and is to be opened
	// anew: the one that was told is not the only one that writes there.
	Reopen MessageType = "reopen"
	// Bye is the old process's last word, with its account of the connections.
	Bye MessageType = "bye"
)

// Message is one datagram on the link: JSON, so that a field can be added
// without a new version. At most maxMessage bytes, and with a Type that carries
// descriptors at most maxFiles of them (SCM_RIGHTS: unix(7)).
type Message struct {
	Type       MessageType `json:"type"`
	Versions   []int       `json:"versions,omitempty"`   // hello
	Build      string      `json:"build,omitempty"`      // hello
	Generation int         `json:"generation,omitempty"` // hello
	PID        int         `json:"pid,omitempty"`        // hello
	// Bound is the longest that the new process may take until it is ready, in
	// nanoseconds; then the old one, which says so in its hello, kills it. 0: not told.
	Bound  time.Duration `json:"bound,omitempty"`
	Reason string        `json:"reason,omitempty"` // failed, give-back: one line for a person
	Phase  string        `json:"phase,omitempty"`  // phase; failed, give-back: where

	Spans []time.Duration `json:"spans,omitempty"` // phase: the times over which figures are wanted

	Takes bool `json:"takes_metrics,omitempty"` // hello: understands Metrics
	Want  bool `json:"want,omitempty"`          // metrics: to be answered with the receiver's, and the same Seq

	Seq   uint64 `json:"seq,omitempty"`   // offer, ack, metrics
	Items []Item `json:"items,omitempty"` // offer
	Taken []byte `json:"taken,omitempty"` // ack: bit i%8 of byte i/8 is item i

	Name    string   `json:"name,omitempty"`    // state, relay
	Version int      `json:"version,omitempty"` // state
	Size    int64    `json:"size,omitempty"`    // state, metrics: bytes
	Sum     uint32   `json:"sum,omitempty"`     // state, metrics: CRC-32C
	Final   bool     `json:"final,omitempty"`   // state: what came after the first blob
	Data    []byte   `json:"data,omitempty"`    // relay, figures, report
	Account *Account `json:"account,omitempty"` // bye

	files []int // descriptors that came along; the receiver's to close
	short bool  // the kernel could not install all of them (MSG_CTRUNC)
}

// ItemKind says what a descriptor in an offer is.
type ItemKind string

const (
	// kindFresh is an accepted connection on which no byte has arrived.
	kindFresh ItemKind = "fresh"
	// kindIdle is an HTTP/1 connection between two messages.
	kindIdle ItemKind = "idle"
	// kindHijacked is a connection of a handler that can resume elsewhere.
	kindHijacked ItemKind = "hijacked"
)

// Item describes one connection of an offer.
type Item struct {
	Like     bool     `json:"like,omitempty"` // the next four are those of the item before
	Kind     ItemKind `json:"kind,omitempty"`
	Listener string   `json:"listener,omitempty"` // the name of the one that accepted it
	Network  string   `json:"network,omitempty"`  // "tcp" or "unix"
	Local    string   `json:"local,omitempty"`    // address

	Remote  string        `json:"remote,omitempty"`  // address
	Left    time.Duration `json:"left,omitempty"`    // until the read deadline; 0: there is none
	Prefix  []byte        `json:"prefix,omitempty"`  // fresh, idle: bytes of the next message that were read already
	Handler string        `json:"handler,omitempty"` // hijacked: who resumes it
	State   []byte        `json:"state,omitempty"`   // hijacked: with what
}

// shorten says of an item what it does not share with the one before, which is
// most of the work of encoding and decoding a full offer.
func (it *Item) shorten(before Item) {
	if it.Kind == before.Kind && it.Listener == before.Listener && it.Network == before.Network && it.Local == before.Local {
		it.Like, it.Kind, it.Listener, it.Network, it.Local = true, "", "", "", ""
	}
}

// restore undoes shorten.
func (it *Item) restore(before Item) {
	if it.Like {
		it.Like, it.Kind, it.Listener, it.Network, it.Local = false, before.Kind, before.Listener, before.Network, before.Local
	}
}

// Speaks tells whether a peer that sent this hello shares a version with us.
func (m Message) Speaks() bool { return m.common() > 0 }

// Moves tells whether a peer that sent this hello can hand over, or take,
// connections and state.
func (m Message) Moves() bool { return m.common() >= movingVersion }

// common is the best version that both sides speak; 0 if there is none.
func (m Message) common() int {
	best := 0
	for _, v := range m.Versions {
		if v > best && slices.Contains(ProtocolVersions, v) {
			best = v
		}
	}
	return best
}

const (
	// maxMessage leaves room below the default send buffer of a Unix socket
	// (net.core.wmem_default, 212,992 bytes).
	maxMessage = 160 << 10
	// maxFiles is SCM_MAX_FD, what the kernel passes at once (unix(7)).
	maxFiles = 253
	// maxReason leaves room for the rest, and for JSON's escapes (six bytes for one).
	maxReason = 2 << 10
	// maxPrefix is what net/http can have read of a message and still be at its
	// boundary: see boundary.
	maxPrefix = 3
)

// ErrMalformed is in the error for a datagram that is no message.
var ErrMalformed = errors.New("handoff: malformed message from the peer")

// decodeMessage reads one datagram.
func decodeMessage(b []byte) (Message, error) {
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if m.Type == "" {
		return Message{}, fmt.Errorf("%w: no type", ErrMalformed)
	}
	if len(m.Items) > maxFiles || len(m.Taken) > (maxFiles+7)/8 {
		return Message{}, fmt.Errorf("%w: more than %d connections", ErrMalformed, maxFiles)
	}
	for i, it := range m.Items {
		if i > 0 {
			m.Items[i].restore(m.Items[i-1])
		}
		if len(it.Prefix) > maxPrefix || it.Left < 0 {
			return Message{}, fmt.Errorf("%w: connection %d", ErrMalformed, i)
		}
	}
	return m, nil
}

// taken tells whether an Ack took item i.
func (m Message) taken(i int) bool {
	return i/8 < len(m.Taken) && m.Taken[i/8]&(1<<(i%8)) != 0
}

// take notes in an Ack that item i was taken.
func (m *Message) take(i int) {
	for len(m.Taken) <= i/8 {
		m.Taken = append(m.Taken, 0)
	}
	m.Taken[i/8] |= 1 << (i % 8)
}

// discard closes the descriptors that came with a message.
func (m *Message) discard() {
	for _, fd := range m.files {
		_ = unix.Close(fd)
	}
	m.files = nil
}
