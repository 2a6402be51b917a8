package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// logTail reads what is appended to a log of JSON lines, line by line.
type logTail struct {
	path string
	at   int64  // read up to here
	part []byte // the line of which the end has not been read
}

// next calls line with each complete line that has come since the last call.
func (t *logTail) next(line func([]byte)) error {
	f, err := os.Open(t.path)
	if os.IsNotExist(err) {
		return nil // not yet
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, t.at, 1<<62))
	if err != nil {
		return err
	}
	t.at += int64(len(b))
	t.part = append(t.part, b...)
	for {
		l, rest, ok := bytes.Cut(t.part, []byte("\n"))
		if !ok {
			return nil
		}
		t.part = rest
		line(l)
	}
}

// serving returns the addresses of the first line that says "serving", nil while
// there is none.
func (t *logTail) serving() (addrs []string, err error) {
	err = t.next(func(line []byte) {
		var entry struct {
			Message string   `json:"message"`
			Addrs   []string `json:"addrs"`
		}
		if addrs == nil && json.Unmarshal(line, &entry) == nil && entry.Message == "serving" {
			addrs = entry.Addrs
		}
	})
	return addrs, err
}

// parseAddr reads an address as the log names it: NAME=host:port or NAME=unix:PATH;
// the name may be missing, and is "http" then.
func parseAddr(s string) (name string, addr Addr) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok {
		name, rest = "http", s
	}
	if path, ok := strings.CutPrefix(rest, "unix:"); ok {
		return name, Addr{Network: "unix", Address: path}
	}
	return name, Addr{Network: "tcp", Address: rest}
}

// lastLines is the end of a file, for a person to read.
func lastLines(path string) string {
	const most = 4 << 10
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	b := make([]byte, min(end, most))
	n, err := f.ReadAt(b, end-int64(len(b)))
	if err != nil && n < len(b) {
		return fmt.Sprintf("%s: %v", b[:n], err)
	}
	if end > most {
		_, b, _ = bytes.Cut(b, []byte("\n")) // whole lines only
	}
	return strings.TrimSpace(string(b))
}
