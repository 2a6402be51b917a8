package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Range is the ids that one worker has sent: Prefix-Worker-seq, seq from 0 to N-1.
// The messages of a WebSocket are no requests in a server's log and have no Range.
type Range struct {
	Workload string
	Prefix   string
	Worker   int
	N        int64
	Failed   []int64 // seq of each request that was lost, ascending
}

// IDs yields the id of every HTTP request sent, and whether it was answered.
func (t Tally) IDs() iter.Seq2[string, bool] {
	return func(yield func(string, bool) bool) {
		for _, r := range t.Ranges {
			failed := r.Failed
			for seq := range r.N {
				lost := len(failed) > 0 && failed[0] == seq
				if lost {
					failed = failed[1:]
				}
				if !yield(requestID(r.Prefix, r.Worker, seq), !lost) {
					return
				}
			}
		}
	}
}

// OnceIn checks the run against the server's access log, JSON lines of which the
// ones with message "request" count: each request that was answered is there once,
// and each that was lost at most once. Lines that are not JSON are passed over. The
// error names how many ids are wrong, and up to 10 of them.
//
// All generations must have ended, or their last lines may be missing.
func (t Tally) OnceIn(log io.Reader) error {
	seen := make(map[string]int)
	lines := bufio.NewReaderSize(log, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		var entry struct {
			Message string `json:"message"`
			ID      string `json:"request_id"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Message == "request" {
			seen[entry.ID]++
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("load: read access log: %w", err)
		}
	}

	const shown = 10
	var wrong []string
	n := 0
	for id, answered := range t.IDs() {
		times := seen[id]
		if times == 1 || times == 0 && !answered {
			continue
		}
		if n++; n <= shown {
			wrong = append(wrong, fmt.Sprintf("%s %d times, answered %t", id, times, answered))
		}
	}
	if n > 0 {
		return fmt.Errorf("load: %d requests are not in the access log as often as they should be: %q", n, wrong)
	}
	return nil
}
