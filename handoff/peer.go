package handoff

import (
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
	sender  *Sender
	leaving *Sender // stopped, perhaps with something still under way
	ended   bool    // the link
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
		if p.ended {
			p.sender.gone()
			p.sender.Close()
		}
	}
	return p.sender
}

// StopSending ends the sender: what waits stays here, and what is under way gets
// its verdict before StopSending returns, within the bound for acknowledgements.
func (p *Peer) StopSending() {
	p.mu.Lock()
	s := p.sender
	p.sender = nil
	p.leaving = s
	p.mu.Unlock()
	if s != nil {
		s.Close()
	}
}

// Adopted is how many connections have come from the peer.
func (p *Peer) Adopted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.adopted
}

// Listen reads the link until it ends, deals with offers and acknowledgements, and
// gives every other message to handle. It returns why the link ended: io.EOF when
// the peer is gone, net.ErrClosed after Close. By then every connection that was
// under way has its verdict.
func (p *Peer) Listen(handle func(Message)) error {
	for {
		m, err := p.Receive(0)
		if err != nil {
			p.end()
			return err
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
			for _, s := range p.senders() {
				s.acknowledge(m)
			}
		default:
			handle(m)
		}
	}
}

// senders are those that may wait for an answer.
func (p *Peer) senders() (all []*Sender) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range []*Sender{p.sender, p.leaving} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// end decides what is under way.
func (p *Peer) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for _, s := range p.senders() {
		s.gone()
		s.Close()
	}
}
