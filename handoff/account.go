package handoff

import "time"

// Account says what became of the connections of one upgrade: those that were
// open in the old process when its accept loops had confirmed that they are parked.
// It balances:
//
//	Open == Moved + Closed + Retired + Dropped
type Account struct {
	Open     int `json:"open"`     // at the takeover
	Requests int `json:"requests"` // of these, being carried out then
	Hijacked int `json:"hijacked"` // of these, in the hands of a handler then

	Moved   int `json:"moved"`   // now the new process's
	Closed  int `json:"closed"`  // ended in good order: by the client, or after a last response
	Retired int `json:"retired"` // silent to the end, and closed at a message boundary
	Dropped int `json:"dropped"` // closed by the drain deadline, with or without a request

	Refused   int `json:"refused"`    // offered and not taken; they are in one of the sums above
	TakenBack int `json:"taken_back"` // moved, and returned by a new process that gave up
	Cut       int `json:"cut"`        // requests that the deadline ended

	Takeover time.Duration `json:"takeover_ns"` // until all that could move at once had moved
	Drain    time.Duration `json:"drain_ns"`    // from there to the last connection's end
}

// Balances tells whether every connection is accounted for.
func (a Account) Balances() bool {
	return a.Open == a.Moved+a.Closed+a.Retired+a.Dropped
}

func (a *Account) add(b Account) {
	a.Open += b.Open
	a.Requests += b.Requests
	a.Hijacked += b.Hijacked
	a.Moved += b.Moved
	a.Closed += b.Closed
	a.Retired += b.Retired
	a.Dropped += b.Dropped
	a.Refused += b.Refused
	a.TakenBack += b.TakenBack
	a.Cut += b.Cut
}
