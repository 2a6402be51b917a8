package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// Class is how a request was lost.
type Class int

// The classes. "Before" and "in" are as the client saw it: what the server had done
// by then it cannot know.
const (
	Refused   Class = iota // no one listened: ECONNREFUSED, or no socket file
	Reset                  // ECONNRESET or EPIPE before the first byte of the answer
	EOF                    // the server closed after it was sent something, and answered nothing
	Truncated              // the answer began and did not end, by EOF or reset
	Timeout                // the request's time ran out, at whatever point
	Status                 // a complete answer with another status than 200
	Corrupt                // an answer that breaks the protocol, or is to another request
	Other                  // anything else; the example says what
	classes
)

var classNames = [...]string{"refused", "reset", "EOF before response", "truncated", "timeout", "status", "corrupt", "other"}

// String is the class's name, "EOF before response" for instance.
func (c Class) String() string {
	if c < 0 || c >= classes {
		return fmt.Sprintf("class %d", int(c))
	}
	return classNames[c]
}

// failure is the error of a lost request.
type failure struct {
	class Class
	err   error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(class Class, format string, args ...any) error {
	return &failure{class, fmt.Errorf(format, args...)}
}

// ioFailure gives an error of the connection its class; began says that bytes of
// the answer had been read.
func ioFailure(verb string, err error, began bool) error {
	return &failure{ioClass(err, began), fmt.Errorf("%s: %w", verb, err)}
}

func ioClass(err error, began bool) Class {
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return Refused
	case began && (isReset(err) || isEOF(err)):
		return Truncated
	case isReset(err):
		return Reset
	case isEOF(err):
		return EOF
	}
	return Other
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// isEOF includes crypto/tls's word for an EOF without close_notify.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// classOf is the class of any error of an exchange.
func classOf(err error) Class {
	var f *failure
	if errors.As(err, &f) {
		return f.class
	}
	return ioClass(err, false)
}
