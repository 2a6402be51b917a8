package upgrade

import (
	"fmt"
	"os"
	"sync"
)

// LogFile is a file for a logger to write to that can be opened anew under the
// same path, after logrotate(8) has moved it away. Give its Reopen to
// [Config.ReopenLog]. Writes are appended, so that two generations can share it.
type LogFile struct {
	path string

	mu sync.Mutex // guards f
	f  *os.File
}

// OpenLogFile opens or makes the file, mode 0640 less the umask.
func OpenLogFile(path string) (*LogFile, error) {
	f, err := openLog(path)
	if err != nil {
		return nil, err
	}
	return &LogFile{path: path, f: f}, nil
}

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	return f, nil
}

// Write appends one record.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// Reopen opens the path anew. If that fails, the old file stays in use.
func (l *LogFile) Reopen() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.f
	l.f = f
	l.mu.Unlock()
	return old.Close()
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
