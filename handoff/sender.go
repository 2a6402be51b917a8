package handoff

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sender passes connections to the process at the other end of a link. A
// connection belongs to this process until the peer has acknowledged it, and to
// the peer from then on; nobody reads it in between. The peer writes its
// acknowledgement before it lets anyone read, so:
//
//   - acknowledged: the peer's; our descriptor is closed;
//   - refused: ours, as before;
//   - the link ends before an acknowledgement: ours, for whoever could not write
//     one does not read;
//   - no acknowledgement within the bound: we shut down our receiving end
//     (shutdown(2)), after which the peer can write none, read those that are queued,
//     and the rest is ours.
//
// It owns one goroutine, which [Sender.Close] waits for.
type Sender struct {
	link  *Link
	bound time.Duration // for an acknowledgement
	wake  chan struct{}
	quit  chan struct{}
	group sync.WaitGroup

	mu    sync.Mutex // guards what follows
	queue []*parcel
	sent  []*batch  // oldest first
	limit int       // descriptors in one message
	due   []*parcel // decided, to be told when mu is free
	ended bool      // takes no more
	err   error     // why it gave up

	moved, refused int
}

// parcel is one connection on its way.
type parcel struct {
	fd      int // stays open until the verdict
	item    Item
	verdict func(moved bool) // called once, without a lock
	decided bool
	moved   bool
}

// batch is one message whose acknowledgement is awaited.
type batch struct {
	seq     uint64
	parcels []*parcel
	at      time.Time
}

const (
	// maxUnanswered is how many messages may wait for their answer: enough to keep both sides busy,
	// few enough that a peer which cannot keep up slows us down.
	maxUnanswered = 4
	// maxStates bounds the states in one message; MaxConnState fits, encoded.
	maxStates = 96 << 10
)

// MaxConnState is the largest state that a hijacked connection may move with, in
// bytes: it travels in one message with its descriptor.
const MaxConnState = 64 << 10

// ErrStalled is in the error of a sender whose peer lives but does not do its part.
var ErrStalled = errors.New("handoff: the peer does not take connections")

// NewSender starts a sender. bound is how long the peer may take for an
// acknowledgement.
func NewSender(l *Link, bound time.Duration) *Sender {
	s := &Sender{
		link: l, bound: bound, limit: maxFiles,
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	s.group.Go(s.run)
	return s
}

// hand passes a connection on and waits for the verdict: true if the peer has
// it. The descriptor must stay open meanwhile.
func (s *Sender) hand(fd int, it Item) bool {
	verdict := make(chan bool, 1)
	s.enqueue(&parcel{fd: fd, item: it, verdict: func(moved bool) { verdict <- moved }})
	return <-verdict
}

// enqueue passes connections on.
func (s *Sender) enqueue(parcels ...*parcel) {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		for _, p := range parcels {
			p.verdict(false)
		}
		return
	}
	s.queue = append(s.queue, parcels...)
	s.mu.Unlock()
	s.nudge()
}

// unlock releases mu and tells those that have been decided under it.
func (s *Sender) unlock() {
	due := s.due
	s.due = nil
	s.mu.Unlock()
	for _, p := range due {
		p.verdict(p.moved)
	}
}

func (s *Sender) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends what is queued and watches for acknowledgements that are overdue.
func (s *Sender) run() {
	overdue := time.NewTimer(s.bound)
	defer overdue.Stop()
	quit := s.quit
	for {
		for s.next() {
		}
		if quit == nil && s.answered() {
			return
		}
		overdue.Reset(s.patience())
		select {
		case <-s.wake:
		case <-overdue.C:
			if s.patience() <= 0 {
				s.giveUp(fmt.Errorf("%w: no acknowledgement within %s", ErrStalled, s.bound))
			}
		case <-quit:
			quit = nil
		}
	}
}

// answered tells whether nothing is under way any more that could be waited for.
func (s *Sender) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent) == 0 || s.err != nil
}

// patience is how long the oldest message may still be unanswered.
func (s *Sender) patience() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) == 0 || s.err != nil {
		return s.bound
	}
	return s.bound - time.Since(s.sent[0].at)
}

// next sends one message if there is something to send and room in the window.
func (s *Sender) next() bool {
	s.mu.Lock()
	if len(s.queue) == 0 || len(s.sent) >= maxUnanswered || s.err != nil {
		s.mu.Unlock()
		return false
	}
	n, states := 0, 0
	for n < len(s.queue) && n < s.limit {
		states += len(s.queue[n].item.State)
		if n > 0 && states > maxStates {
			break
		}
		n++
	}
	b := &batch{seq: s.link.offers.Add(1), parcels: append([]*parcel(nil), s.queue[:n]...), at: time.Now()}
	s.queue = s.queue[n:]
	// Before it is sent: the answer may be quicker than we are.
	s.sent = append(s.sent, b)
	s.mu.Unlock()

	m := Message{Type: Offer, Seq: b.seq, Items: make([]Item, n)}
	fds := make([]int, n)
	for i, p := range b.parcels {
		m.Items[i], fds[i] = p.item, p.fd
		if i > 0 {
			m.Items[i].shorten(b.parcels[i-1].item)
		}
	}
	if err := s.link.send(m, fds); err != nil {
		return s.unsent(b, err)
	}
	return true
}

// unsent deals with a message that could not be sent. It reports whether it is
// worth going on at once.
func (s *Sender) unsent(b *batch, err error) bool {
	s.mu.Lock()
	s.drop(b)
	if s.ended { // meanwhile
		for _, p := range b.parcels {
			s.decide(p, false)
		}
		s.unlock()
		return false
	}
	s.queue = append(b.parcels, s.queue...)
	size, waiting := len(b.parcels), len(s.sent)
	tooBig := errors.Is(err, unix.EMSGSIZE)
	// More descriptors are under way than RLIMIT_NOFILE allows this user (unix(7)).
	tooMany := errors.Is(err, unix.ETOOMANYREFS)
	switch {
	case tooMany && waiting > 0:
		s.mu.Unlock()
		return false // an acknowledgement makes room, and wakes us
	case (tooBig || tooMany) && size > 1:
		s.limit = size / 2
		s.mu.Unlock()
		return true
	case tooBig || tooMany:
		s.queue = s.queue[1:]
		s.decide(b.parcels[0], false)
		s.unlock()
		return true
	}
	s.mu.Unlock()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: %w", ErrStalled, err)
	}
	s.giveUp(err)
	return false
}

// drop forgets a message. The caller holds mu.
func (s *Sender) drop(b *batch) {
	for i, other := range s.sent {
		if other == b {
			s.sent = append(s.sent[:i], s.sent[i+1:]...)
			return
		}
	}
}

// decide notes a verdict, of which unlock tells. The caller holds mu.
func (s *Sender) decide(p *parcel, moved bool) {
	if p.decided {
		return
	}
	p.decided, p.moved = true, moved
	s.due = append(s.due, p)
	if moved {
		s.moved++
	} else {
		s.refused++
	}
}

// acknowledge takes an Ack.
func (s *Sender) acknowledge(m Message) {
	s.mu.Lock()
	for _, b := range s.sent {
		if b.seq == m.Seq {
			s.drop(b)
			for i, p := range b.parcels {
				s.decide(p, m.taken(i))
			}
			break
		}
	}
	s.nudge() // before the verdicts, which take their time
	s.unlock()
}

// giveUp ends sending because the peer does not do its part. What it has not
// acknowledged is decided by what is still queued in the link: see gone.
func (s *Sender) giveUp(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.refuseQueue()
	waiting := len(s.sent)
	s.unlock()
	if waiting > 0 {
		_ = s.link.Finish()
	}
}

// refuseQueue ends taking. The caller holds mu.
func (s *Sender) refuseQueue() {
	s.ended = true
	for _, p := range s.queue {
		s.decide(p, false)
	}
	s.queue = nil
}

// gone takes the end of the link: whatever is not acknowledged by now never is.
func (s *Sender) gone() {
	s.mu.Lock()
	s.refuseQueue()
	for _, b := range s.sent {
		for _, p := range b.parcels {
			s.decide(p, false)
		}
	}
	s.sent = nil
	s.nudge()
	s.unlock()
}

// Err tells why the sender gave up, if it did.
func (s *Sender) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Counts tells how many connections have moved and how many were refused.
func (s *Sender) Counts() (moved, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved, s.refused
}

// Stop takes no more connections. Those that wait to be sent stay here; those
// that are under way get their verdict.
func (s *Sender) Stop() {
	s.mu.Lock()
	s.refuseQueue()
	s.unlock()
}

// Close ends the sender and waits for its goroutine, which is until the peer has
// answered what is under way, the link has ended, or the bound has passed.
func (s *Sender) Close() {
	s.Stop()
	s.mu.Lock()
	select {
	case <-s.quit:
	default:
		close(s.quit)
	}
	s.mu.Unlock()
	s.group.Wait()
}
