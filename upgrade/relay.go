package upgrade

import (
	"errors"
	"sync"

	"github.com/holdfast-go/holdfast/handoff"
)

// MaxRelay is the largest message of a [Process.Relay], in bytes.
const MaxRelay = 48 << 10

// ErrAlone is returned by the send function of a relay while there is no other
// generation to talk to.
var ErrAlone = errors.New("upgrade: there is no other generation to talk to")

// relays are the conversations of the service's own code between two generations.
type relays struct {
	mu   sync.Mutex // guards what follows
	ends map[string]relay
	peer *handoff.Peer // the other generation; nil while there is none
}

// relay is this process's end of one conversation.
type relay struct {
	receive func(data []byte)
	gone    func()
}

// Relay opens a conversation with the same code in the other generation, for
// services whose connections have to do with each other while some of them are
// here and some there: the members of a chat room. Both generations register the
// same name, before Run.
//
// It exists from the moment when the old generation's States are saved, until the
// old one has exited or the new one has failed. Messages arrive in order; receive is
// called by one goroutine, which also takes the connections that move: it must
// not wait for one of them. gone is called after the last receive. send returns
// [ErrAlone] when there is nobody, and an error for more than [MaxRelay] bytes or for
// a peer that does not read; a message that was sent just before the peer's end is
// lost, so whoever needs an answer waits for one, or for gone.
func (p *Process) Relay(name string, receive func(data []byte), gone func()) (send func(data []byte) error) {
	r := &p.relays
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends == nil {
		r.ends = map[string]relay{}
	}
	r.ends[name] = relay{receive, gone}
	return func(data []byte) error {
		r.mu.Lock()
		peer := r.peer
		r.mu.Unlock()
		if peer == nil {
			return ErrAlone
		}
		if len(data) > MaxRelay {
			return errors.New("upgrade: relay: the message is too long")
		}
		return peer.Send(handoff.Message{Type: handoff.Relay, Name: name, Data: data})
	}
}

// attach begins the conversations with a peer.
func (r *relays) attach(peer *handoff.Peer) {
	r.mu.Lock()
	r.peer = peer
	r.mu.Unlock()
}

// detach ends them, if they were with this one.
func (r *relays) detach(peer *handoff.Peer) {
	r.mu.Lock()
	var ends []relay
	if peer != nil && r.peer == peer {
		r.peer = nil
		for _, e := range r.ends {
			ends = append(ends, e)
		}
	}
	r.mu.Unlock()
	for _, e := range ends {
		if e.gone != nil {
			e.gone()
		}
	}
}

func (r *relays) receive(m handoff.Message) {
	r.mu.Lock()
	e := r.ends[m.Name]
	r.mu.Unlock()
	if e.receive != nil {
		e.receive(m.Data)
	}
}
