package upgrade

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/systemd"
)

// The service manager's descriptor store holds the listening sockets beside the
// generations, so that they stay open when all of them die at once: clients wait in the
// queue until the service has been started again. What a socket unit holds is not stored,
// and neither is the admin listener: an operator is better off with an error than with
// a request for an upgrade that a later process carries out.

// storedEnv tells the next generation under which names this one has stored its
// sockets, separated by ':', which no name contains.
const storedEnv = "HOLDFAST_STORED"

// keepStored gives the set what the manager has kept of an earlier run, and leaves in
// passed what comes from a socket unit.
func (p *Process) keepStored(passed map[string][]net.Listener) {
	for name, lns := range passed {
		text, ok := systemd.StoredText(name)
		if !ok {
			continue
		}
		delete(passed, name)
		a, err := handoff.ParseAddress(text)
		if err != nil {
			p.log.Warn().Err(err).Str("name", name).Msg("socket in the service manager's store not understood: it is removed")
			p.forget(name)
			_ = closeAll(map[string][]net.Listener{name: lns})
			continue
		}
		p.log.Info().Stringer("addr", a).Msg("the service manager has kept this socket open")
		for _, ln := range lns {
			p.set.Keep(a, ln, p.dropStored)
		}
	}
}

// dropStored has the manager close a socket of an earlier run that has no use any more.
func (p *Process) dropStored(a handoff.Address) {
	p.log.Warn().Stringer("addr", a).Msg("a socket that the service manager has kept does not fit the settings any more: it is closed")
	if name, ok := systemd.StoredName(a.String()); ok {
		p.forget(name)
	}
}

func (p *Process) forget(name string) {
	if err := p.manager.Forget(name); err != nil {
		p.log.Warn().Err(err).Msg("the service manager may still hold a socket that is not used")
	}
}

// store leaves the listening sockets with the manager, and removes those that the
// previous generation had and this one has not.
func (p *Process) store() {
	if !p.manager.Managed() {
		return
	}
	type socket struct {
		name string
		ln   *handoff.Listener
	}
	var sockets []socket
	var names []string
	for _, ln := range p.set.Listeners() {
		if ln.Passed() {
			continue
		}
		name, ok := systemd.StoredName(ln.Address().String())
		if !ok {
			p.log.Warn().Stringer("addr", ln.Address()).Msg("the address is too long for the service manager's store: after a crash it is bound anew")
			continue
		}
		sockets, names = append(sockets, socket{name, ln}), append(names, name)
	}
	// First, because what is stored under a name is not stored again under another one.
	for name := range strings.SplitSeq(os.Getenv(storedEnv), ":") {
		if name != "" && !slices.Contains(names, name) {
			p.forget(name)
			p.removeFile(name)
		}
	}
	for _, s := range sockets {
		if err := p.manager.Store(s.name, s.ln); err != nil {
			p.log.Warn().Err(err).Stringer("addr", s.ln.Address()).Msg("socket not left with the service manager: after a crash it is bound anew")
		}
	}
	if err := os.Setenv(storedEnv, strings.Join(names, ":")); err != nil {
		p.log.Warn().Err(err).Msg("the next generation does not learn what is stored")
	}
}

// removeFile removes the file of a Unix socket that the previous generation listened
// on and this one does not.
func (p *Process) removeFile(name string) {
	text, _ := systemd.StoredText(name)
	a, err := handoff.ParseAddress(text)
	if err != nil || a.Network != "unix" || a.Addr[0] == '@' {
		return
	}
	for _, ln := range p.set.Listeners() {
		if ln.Addr().String() == a.Addr {
			return
		}
	}
	if fi, err := os.Lstat(a.Addr); err == nil && fi.Mode()&fs.ModeSocket != 0 {
		if err := os.Remove(a.Addr); err != nil {
			p.log.Warn().Err(err).Msg(fmt.Sprintf("the socket %s is not used any more, and its file stays", a.Addr))
		}
	}
}
