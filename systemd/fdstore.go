package systemd

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
)

// Sockets in the descriptor store come back beside those of a socket unit, after a
// crash, a restart or an abort by the watchdog, and only the name tells which is which:
// sd_pid_notify_with_fds(3). So the name says whose it is, and all that the next
// process has to know.

// storedPrefix begins the names of stored sockets. A FileDescriptorName= that begins
// so would be taken for one; '=' makes that unlikely.
const storedPrefix = "holdfast="

// maxFDName is how long a name may be: FDNAME= in sd_notify(3).
const maxFDName = 255

// StoredName is the name under which the socket that text describes is kept. It is
// text with everything but letters, digits, '-', '_', '.' and '~' escaped, since a
// name holds no control characters and no ':'. It is false if that is too long.
func StoredName(text string) (string, bool) {
	name := storedPrefix + url.QueryEscape(text)
	return name, len(name) <= maxFDName
}

// StoredText is the text that [StoredName] made name of; false if it did not.
func StoredText(name string) (string, bool) {
	escaped, ok := strings.CutPrefix(name, storedPrefix)
	if !ok {
		return "", false
	}
	text, err := url.QueryUnescape(escaped)
	return text, err == nil
}

// Store leaves a duplicate of a socket with the manager. The process that it starts
// after this service has died, or has been told to restart, finds it among its
// [Listeners] under this name; a stop ends it. One that is there already is not stored
// twice. The caller keeps the socket.
//
// It has no effect where the unit's FileDescriptorStoreMax= is 0, the default, or is
// used up. The manager does not say so.
func (n *Notifier) Store(name string, socket syscall.Conn) error {
	// FDPOLL=0: the manager would drop what poll(2) finds hung up.
	return n.sendFile(socket, "FDSTORE=1", "FDPOLL=0", "FDNAME="+name)
}

// Forget has the manager close all that it keeps under this name. When it has returned
// nil, that is done.
func (n *Notifier) Forget(name string) error {
	if err := n.send("FDSTOREREMOVE=1", "FDNAME="+name); err != nil {
		return fmt.Errorf("systemd: remove %s from the store: %w", name, err)
	}
	return n.Barrier()
}
