package systemd

import (
	"path/filepath"
	"slices"
	"strings"
)

// What systemd.unit(5) puts in the place of these: /run and /var/lib in the system,
// and for a user $XDG_RUNTIME_DIR and a directory of its own.
const (
	runtimeSpecifier = "%t"
	stateSpecifier   = "%S"
)

// directories are what the service writes to, by who makes them.
type directories struct {
	runtime, state, logs []string // the manager, below %t, %S and %L
	writes               []string // they are there
	socketInside         bool     // a Unix socket is in one of runtime
}

// directories sorts them. Only the PID file's directory below %t, and those that bear
// the service's name, become the service's own: RuntimeDirectory= changes the owner of
// a directory that exists, and removes it.
func (u Unit) directories() directories {
	var d directories
	if rel, ok := below(filepath.Dir(u.PIDFile), u.roots(runtimeSpecifier, u.RuntimeDir, "/var/run")...); ok {
		d.runtime = append(d.runtime, rel)
	} else {
		d.write(filepath.Dir(u.PIDFile))
	}
	if rel, ok := below(u.StateDir, u.roots(stateSpecifier, "/var/lib")...); ok {
		d.state = append(d.state, rel)
	} else {
		d.write(u.StateDir)
	}
	if u.LogFile != "" {
		dir := filepath.Dir(u.LogFile)
		if rel, ok := below(dir, u.roots("/var/log")...); ok && first(rel) == u.Name {
			d.logs = append(d.logs, rel)
		} else {
			d.write(dir)
		}
	}
	for _, l := range u.all() {
		if l.Network != "unix" || strings.HasPrefix(l.Addr, "@") {
			continue
		}
		dir := filepath.Dir(l.Addr)
		rel, ok := below(dir, u.roots(u.RuntimeDir, "/var/run")...)
		switch {
		case ok && slices.ContainsFunc(d.runtime, func(own string) bool { return within(rel, own) }):
			d.socketInside = d.socketInside || !slices.Contains(u.Admin, l)
		case ok && first(rel) == u.Name:
			d.runtime = append(d.runtime, rel)
			d.socketInside = d.socketInside || !slices.Contains(u.Admin, l)
		default:
			d.write(dir)
		}
	}
	if u.User {
		d.writes = nil // nothing is read-only there
	}
	return d
}

// roots leaves out the system's directories for a user's manager. Of those that it has
// instead only RuntimeDir is known here.
func (u Unit) roots(dirs ...string) []string {
	if !u.User {
		return dirs
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return dir != u.RuntimeDir && !strings.HasPrefix(dir, "%") })
}

func (d *directories) write(dir string) {
	if !slices.Contains(d.writes, dir) {
		d.writes = append(d.writes, dir)
	}
}

// below gives what is left of path below the first of dirs that it is really below.
func below(path string, dirs ...string) (string, bool) {
	for _, dir := range dirs {
		if rel, ok := strings.CutPrefix(path, dir+"/"); ok {
			return rel, true
		}
	}
	return "", false
}

// within tells whether path is dir, or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func first(rel string) string {
	name, _, _ := strings.Cut(rel, "/")
	return name
}

// split gives the specifier that stands for the beginning of a path, or none, and the
// rest.
func (u Unit) split(path string) (specifier, rest string) {
	if rel, ok := below(path, u.roots(runtimeSpecifier, u.RuntimeDir, "/var/run")...); ok {
		return runtimeSpecifier, "/" + rel
	}
	if rel, ok := below(path, u.roots(stateSpecifier, "/var/lib")...); ok {
		return stateSpecifier, "/" + rel
	}
	return "", path
}

// pathValue writes a path as the value of a setting.
func (u Unit) pathValue(path string) string {
	specifier, rest := u.split(path)
	return specifier + percent(rest)
}

// pathWord writes a path in a command line.
func (u Unit) pathWord(path string) string { return quoteWord(u.split(path)) }
