package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Warnings says what would keep the service from running on this machine although the
// unit is right, a line each.
func (u Unit) Warnings() []string {
	u, err := u.checked()
	if err != nil {
		return nil // the units say it
	}
	var lines []string
	warn := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if current := u.release(); current != "" {
		warn("%s is one release, and deploys would not change what the unit starts: call the program as %s", u.Binary, current)
	}
	if u.User {
		for _, l := range u.all() {
			if l.privileged() {
				warn("address %s: a user's service may not have a port below 1024, unless net.ipv4.ip_unprivileged_port_start or a socket unit of the system says so", l.Addr)
			}
		}
		return lines
	}
	for _, path := range u.paths() {
		if dir := hidden(path); dir != "" {
			warn("%s: the service has a %s of its own (ProtectHome=, PrivateTmp=) and does not see what is there: choose another place", path, dir)
		}
	}
	for _, dir := range u.directories().writes {
		if shared(dir) {
			warn("%s is root's, and the user %s cannot make a file there: choose a directory below it, %s for example", dir, u.Name, filepath.Join(dir, u.Name))
		}
	}
	who, err := user.Lookup(u.Name)
	if err != nil {
		warn("there is no user %s on this machine: useradd --system --user-group %s", u.Name, u.Name)
		return lines
	}
	for _, path := range append([]string{u.Binary}, u.Reads...) {
		if err := readable(path, who); err != nil {
			warn("%s: %v", path, err)
		}
	}
	return lines
}

// paths are all that the service meets.
func (u Unit) paths() []string {
	paths := append([]string{u.Binary, u.PIDFile, u.StateDir}, u.Reads...)
	if u.LogFile != "" {
		paths = append(paths, u.LogFile)
	}
	for _, l := range u.all() {
		if l.Network == "unix" {
			paths = append(paths, l.Addr)
		}
	}
	return paths
}

// release gives the name by which deploy.sh's current release would be started, if
// Binary is in one of its releases.
func (u Unit) release() string {
	dir := filepath.Dir(u.Binary)
	if filepath.Base(filepath.Dir(dir)) != "releases" {
		return ""
	}
	current := filepath.Join(filepath.Dir(filepath.Dir(dir)), "current")
	if _, err := os.Lstat(current); err != nil {
		return ""
	}
	return filepath.Join(current, filepath.Base(u.Binary))
}

// hidden gives what ProtectHome= or PrivateTmp= puts an empty directory in the place
// of: systemd.exec(5).
func hidden(path string) string {
	for _, dir := range []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"} {
		if within(path, dir) {
			return dir
		}
	}
	return ""
}

// shared tells whether a directory is one of the system's that belong to nobody else.
func shared(dir string) bool {
	switch dir {
	case "/", "/run", "/var/run", "/var/log", "/var/lib", "/etc":
		return true
	}
	return false
}

// readable says what keeps a user from reading a file, as far as modes tell it. Of the
// groups only the user's own is known to be the service's, which has Group=.
func readable(path string, who *user.User) error {
	uid, err1 := strconv.ParseUint(who.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil || uid == 0 {
		return nil //nolint:nilerr // not a user whom modes keep from anything
	}
	for at, want := path, fs.FileMode(0o4); ; at, want = filepath.Dir(at), 0o1 {
		fi, err := os.Stat(at)
		if err != nil {
			return err
		}
		mode := fi.Mode().Perm()
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			switch {
			case uint64(st.Uid) == uid:
				mode >>= 6
			case uint64(st.Gid) == gid:
				mode >>= 3
			}
		}
		if mode&want == 0 {
			return fmt.Errorf("the user %s may not read it, for the mode of %s is %s: chgrp %s, and give the group the right", who.Username, at, strings.TrimPrefix(fi.Mode().String(), "d"), who.Username)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
