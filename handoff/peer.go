package handoff

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"
)

// Peer is the other generation, seen over a link: it may offer connections, and
// take ours.
type Peer struct {
	*Link
	receiver *Receiver
	bound    time.Duration

	mu      sync.Mutex // guards what follows
	sender  *Sender    // the one in use; nil before the first and after StopSending
	senders []*Sender  // all: a stopped one may still have something under way
	ended   bool       // the link
	adopted int
}

// NewPeer makes a Peer of a link. What it offers goes to r; nil refuses
// everything. bound is how long it may take to acknowledge what it is offered.
func NewPeer(l *Link, r *Receiver, bound time.Duration) *Peer {
	if r == nil {
		r = NewReceiver(nil, nil)
	}
	return &Peer{Link: l, receiver: r, bound: bound}
}

// Sender is what connections move to the peer with. After StopSending the next
// call makes another; once the link has ended it is one that refuses everything.
func (p *Peer) Sender() *Sender {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sender == nil {
		p.sender = NewSender(p.Link, p.bound)
		p.senders = append(p.senders, p.sender)
		if p.ended {
			p.sender.gone()
			p.sender.Close()
		}
	}
	return p.sender
}

// StopSending ends the sender: what waits stays here, and what is under way gets
// its verdict before StopSending returns, within the bound for acknowledgements. It
// may be called by several goroutines.
func (p *Peer) StopSending() {
	p.mu.Lock()
	s := p.sender
	p.sender = nil
	p.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// Counts tells how many connections have moved to the peer and how many it has
// refused.
func (p *Peer) Counts() (moved, refused int) {
	for _, s := range p.all() {
		m, r := s.Counts()
		moved, refused = moved+m, refused+r
	}
	return moved, refused
}

// Err tells why sending to the peer was given up, if it was.
func (p *Peer) Err() error {
	var errs []error
	for _, s := range p.all() {
		errs = append(errs, s.Err())
	}
	return errors.Join(errs...)
}

// Adopted is how many connections have come from the peer.
func (p *Peer) Adopted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.adopted
}

// Listen reads the link until it ends, deals with offers and acknowledgements, and
// gives every other message to handle. It returns why the link ended: io.EOF when
// the peer is gone, net.ErrClosed after Close, [ErrMalformed] for a peer that says
// what nobody understands. By then every connection that was under way has its
// verdict.
func (p *Peer) Listen(handle func(Message)) error {
	var broken error
	for {
		m, err := p.Receive(0)
		if errors.Is(err, ErrMalformed) && p.Finish() == nil {
			// The end, but acknowledgements may be queued behind it: those connections
			// are the peer's. It can write no more, so what is not there never comes.
			broken = errors.Join(broken, err)
			continue
		}
		if err != nil {
			p.end()
			return cmp.Or(broken, err)
		}
		if broken != nil && m.Type != Ack {
			m.discard()
			continue
		}
		switch m.Type {
		case Offer:
			n, err := p.receiver.take(p.Link, m)
			p.mu.Lock()
			p.adopted += n
			p.mu.Unlock()
			if err != nil {
				// It cannot hear us; what it says next is still worth reading.
				p.receiver.logf("%v", err)
			}
		case Ack:
			for _, s := range p.all() {
				s.acknowledge(m)
			}
		default:
			handle(m)
		}
	}
}

// all are the senders that may wait for an answer.
func (p *Peer) all() []*Sender {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.senders)
}

// end decides what is under way.
func (p *Peer) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for _, s := range p.all() {
		s.gone()
		s.Close()
	}
}
