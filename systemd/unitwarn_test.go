package systemd

import (
	"os"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWarnings(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	release := filepath.Join(dir, "releases", "1", "holdfast")
	require.NoError(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
	for name, tc := range map[string]struct {
		change func(*Unit)
		want   []string
	}{
		"as documented":      {func(*Unit) {}, []string{"no user nosuchuser on this machine: useradd"}},
		"the program's home": {func(u *Unit) { u.Binary = "/home/u/holdfast" }, []string{"/home/u/holdfast: the service has a /home of its own"}},
		"root's home":        {func(u *Unit) { u.Reads = []string{"/root/key.pem"} }, []string{"/root/key.pem: the service has a /root of its own"}},
		"temporary":          {func(u *Unit) { u.LogFile = "/tmp/a.log" }, []string{"/tmp/a.log: the service has a /tmp"}},
		"a socket":           {func(u *Unit) { u.Listeners[0] = ListenAddress{"http", "unix", "/var/tmp/s"} }, []string{"/var/tmp/s: the service has a /var/tmp"}},
		"root's directories": {
			func(u *Unit) { u.PIDFile, u.LogFile = "/run/a.pid", "/var/log/a.log" },
			[]string{"/run is root's, ", "a directory below it, /var/log/nosuchuser for example"},
		},
		"a release":       {func(u *Unit) { u.Binary = release }, []string{"call the program as " + filepath.Join(dir, "current", "holdfast")}},
		"a user's port":   {func(u *Unit) { u.User, u.Listeners[0].Addr = true, ":80" }, []string{"address :80: a user's service may not have a port below 1024"}},
		"a user's binary": {func(u *Unit) { u.User, u.Binary = true, "/home/u/holdfast" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			u := documented()
			u.Name = "nosuchuser"
			tc.change(&u)
			got := u.Warnings()
			if !u.User && name != "as documented" {
				require.NotEmpty(t, got)
				got = got[:len(got)-1] // that of the user
			}
			if name != "a release" || u.User { // the test's directory is below /tmp
				require.Len(t, got, len(tc.want), "%q", got)
			}
			for i, want := range tc.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}

// TestReadable goes by owner, group and others, for the file and the way to it.
func TestReadable(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for at := dir; at != filepath.Clean(os.TempDir()) && at != "/"; at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o755))
	}
	key := filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(key, nil, 0o600))
	me := &user.User{Username: "me", Uid: "4242", Gid: "4242"}
	require.ErrorContains(t, readable(key, me), "the user me may not read it, for the mode of "+key+" is -rw-------: chgrp me")
	require.NoError(t, os.Chmod(key, 0o604))
	require.NoError(t, readable(key, me))
	require.NoError(t, os.Chmod(dir, 0o700)) // #nosec
	require.ErrorContains(t, readable(key, me), "the mode of "+dir+" is rwx------")
	require.ErrorContains(t, readable(filepath.Join(dir, "none"), me), "no such file")
	require.NoError(t, readable(key, &user.User{Uid: "0", Gid: "0"}), "root reads everything")
	require.NoError(t, readable(key, &user.User{Uid: "S-1-5", Gid: "x"}))
	if os.Getuid() == 0 {
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, os.Chown(key, 0, 4242))
		require.Error(t, readable(key, me), "the group's rights count, not those of others")
		require.NoError(t, os.Chmod(key, 0o640))
		require.NoError(t, readable(key, me))
		require.NoError(t, os.Chown(key, 4242, 0))
		require.NoError(t, readable(key, me))
	}
}
