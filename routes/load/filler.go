package load

// filler makes the bytes of a body: letters, so that any sort of message may carry
// them, different for each request, so that one body cannot pass for another, and
// made again from the same seed rather than kept.
type filler uint64

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func newFiller(worker int, seq int64) filler {
	return filler(uint64(worker+1)<<40 ^ uint64(seq+1)) //nolint:gosec // any number will do
}

// fill writes the next len(p) bytes: splitmix64 (Steele, Lea, Flood 2014), ten
// letters from each number.
func (f *filler) fill(p []byte) {
	var bits uint64
	for i := range p {
		if i%10 == 0 {
			*f += 0x9e3779b97f4a7c15
			z := uint64(*f)
			z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
			z = (z ^ z>>27) * 0x94d049bb133111eb
			bits = z ^ z>>31
		}
		p[i] = alphabet[bits&63]
		bits >>= 6
	}
}

// message is the body that a request with this id echoes: the id, a line break, and
// filler up to size bytes; never less than the id.
func message(into []byte, id string, worker int, seq int64, size int) []byte {
	into = append(append(into[:0], id...), '\n')
	if rest := size - len(into); rest > 0 {
		at := len(into)
		into = append(into, make([]byte, rest)...)
		f := newFiller(worker, seq)
		f.fill(into[at:])
	}
	return into
}
