package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

const (
	// Keep is how many reports are kept.
	Keep = 100
	// maxFile is more than Keep reports of any size can have.
	maxFile = 16 << 20
)

// Store is the last reports: in memory and, with a path, in a file of JSON lines,
// oldest first, mode 0600. Its methods may be called from several goroutines.
type Store struct {
	path string

	mu   sync.Mutex // guards what follows
	list []Outcome
}

// DamagedError says that a file of reports could not be read in full, and what
// became of it. It is a matter for the log.
type DamagedError struct {
	Path  string
	Aside string // where it is now; empty if it could not be moved
	Err   error  // the first thing that was wrong, and why it was not moved
}

func (e *DamagedError) Error() string {
	if e.Aside == "" {
		return fmt.Sprintf("reports %s are damaged: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("reports %s were damaged and are now %s: %v", e.Path, e.Aside, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Open opens the store in the file at path; an empty path is a store in memory. The
// store is good whatever the error: a [*DamagedError], after which it has the lines
// that could be read, or one of reading.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	return s, s.Reload()
}

// Reload takes the file's content in place of what is in memory: another process
// has written. Its errors are those of [Open].
func (s *Store) Reload() error {
	if s.path == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := Read(s.path)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		aside := s.path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
		if rerr := os.Rename(s.path, aside); rerr != nil {
			damaged.Err = errors.Join(damaged.Err, rerr)
		} else {
			damaged.Aside = aside
		}
	}
	if err == nil || damaged != nil {
		s.list = list
	}
	if damaged != nil && damaged.Aside != "" && len(list) > 0 {
		// What was saved is the next process's, too.
		damaged.Err = errors.Join(damaged.Err, s.write())
	}
	return err
}

// Read reads the reports in a file, oldest first; none if there is no file. With a
// [*DamagedError] come those that could be read. The file stays as it is.
func Read(path string) ([]Outcome, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	list, err := decode(b)
	if err != nil {
		return list, &DamagedError{Path: path, Err: err}
	}
	return list, nil
}

// decode reads JSON lines. The error is the first of a line that is none.
func decode(b []byte) (list []Outcome, err error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	for n, line := 1, []byte(nil); len(b) > 0; n++ {
		line, b, _ = bytes.Cut(b, []byte("\n"))
		var o Outcome
		lerr := json.Unmarshal(line, &o)
		if lerr == nil && (o.Number <= 0 || o.Result == "") {
			lerr = errors.New("not a report")
		}
		if lerr != nil {
			if err == nil {
				err = fmt.Errorf("line %d: %w", n, lerr)
			}
			continue
		}
		list = append(list, o)
	}
	return list[max(0, len(list)-Keep):], err
}

// Put adds a report, or replaces that of the same upgrade, and writes the file. On an
// error, a full disk for example, the report is in memory, and the file is what it
// was; the next Put tries again.
func (s *Store) Put(o Outcome) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.list, o.Same); i >= 0 {
		s.list[i] = o
	} else {
		s.list = append(s.list, o)
		s.list = slices.Clone(s.list[max(0, len(s.list)-Keep):])
	}
	return s.write()
}

// write replaces the file. The caller holds mu.
func (s *Store) write() error {
	if s.path == "" {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, o := range s.list {
		if err := enc.Encode(o); err != nil {
			return fmt.Errorf("write reports: %w", err)
		}
	}
	f, err := renameio.NewPendingFile(s.path,
		renameio.WithTempDir(filepath.Dir(s.path)), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write reports: %w", err)
	}
	defer func() { _ = f.Cleanup() }() // does nothing after the replacement
	if _, err = f.Write(b.Bytes()); err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write reports: %w", err)
	}
	return nil
}

// List returns the reports, oldest first.
func (s *Store) List() []Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// Last returns the latest report.
func (s *Store) Last() (Outcome, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return Outcome{}, false
	}
	return s.list[len(s.list)-1], true
}
