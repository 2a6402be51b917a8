package load

import "fmt"

// Phase is where in an upgrade a request fell. The caller of the load says, with
// Runner.SetPhase; latencies are kept apart by it.
type Phase int32

// The phases. A request of which any part falls into During counts there.
const (
	Before Phase = iota // of the first upgrade; where a Runner begins
	During
	After // until the next one
	phases
)

var phaseNames = [...]string{"before", "during", "after"}

// String is the phase's name, "during" for instance.
func (p Phase) String() string {
	if p < 0 || p >= phases {
		return fmt.Sprintf("phase %d", int32(p))
	}
	return phaseNames[p]
}
