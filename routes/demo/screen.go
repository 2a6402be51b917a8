package demo

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/mattn/go-isatty"
)

// clearLine goes back to the start of the line and clears it (ECMA-48 EL).
const clearLine = "\r\x1b[K"

// screen is where the demonstration is shown: lines that stay and, on a terminal, a
// last one that is refreshed in place.
type screen struct {
	terminal bool

	mu       sync.Mutex // guards what follows
	out      io.Writer
	progress bool // the refreshed line is on the screen
}

func newScreen(out io.Writer) *screen {
	f, ok := out.(*os.File)
	return &screen{out: out, terminal: ok && isatty.IsTerminal(f.Fd())}
}

// line writes a line that stays.
func (s *screen) line(format string, args ...any) {
	s.write(fmt.Sprintf(format, args...)+"\n", false)
}

// refresh writes the line that changes; where nothing can be refreshed it is one
// more line.
func (s *screen) refresh(text string) {
	if s.terminal {
		s.write(text, true)
	} else {
		s.write(text+"\n", false)
	}
}

// clear takes the line that changes away.
func (s *screen) clear() { s.write("", false) }

func (s *screen) write(text string, progress bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.progress {
		text = clearLine + text
	}
	s.progress = progress
	// Nobody is helped by an error about a pipe that nobody reads.
	_, _ = io.WriteString(s.out, text)
}
