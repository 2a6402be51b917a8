package upgrade

import "github.com/holdfast-go/holdfast/handoff"

// Carry registers a blob that this generation takes from the previous one and
// passes on to the next: a counter, a cache, the buckets of a rate limiter. See
// [handoff.State] for its functions. Call it before Run.
//
//	var hits atomic.Int64
//	err := p.Carry(handoff.State{
//		Name: "hits", Version: 1,
//		Save: func() ([]byte, error) { return strconv.AppendInt(nil, hits.Load(), 10), nil },
//		Load: func(b []byte) error {
//			n, err := strconv.ParseInt(string(b), 10, 64)
//			hits.Store(n)
//			return err
//		},
//	})
//
// Limits: a blob has at most [handoff.MaxState] bytes. It does not outlive the
// service: after a stop, a crash, or an upgrade from a binary that does not have
// this, Load is not called. The old generation goes on serving after Save, and
// what that changes is lost unless the State has Rest and Add. An error in any of
// this costs the blob and is logged; the upgrade goes on.
//
// An error of Carry itself says what is wrong with s, or that its name is taken.
func (p *Process) Carry(s handoff.State) error { return p.states.Register(s) }
