// Package unit is the command that prints systemd units for a service with these
// settings, for kong.
//
// # Promise
//
// It takes the settings of `holdfast serve`, from the same places, and writes those
// that a flag or the environment sets into the unit's command line; those of the
// configuration file stay there. What is printed runs as it is: package [systemd] has
// what it is made of. What would keep it from running on this machine is a line on
// standard error, each.
//
// # Limits
//
// Times and addresses that the unit itself depends on (a stop's and a reload's time,
// ports below 1024, directories) are those of the moment: print the unit anew when they
// change.
//
//	flags, HOLDFAST_…, --config ──▶ settings.Server ──▶ systemd.Unit ──▶ the text
package unit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/systemd"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// Command is `holdfast unit`.
type Command struct {
	User         bool   `setting:"-" env:"-" help:"For a user's manager, systemctl --user, instead of the system's."`
	Socket       Socket `setting:"-" env:"-" help:"Print the socket unit instead of the service; --socket=NAME for one of several listeners."`
	Name         string `setting:"-" env:"-" help:"Name of the units, of the system user that the service runs as, and of its directories." default:"holdfast" placeholder:"NAME"`
	Binary       string `setting:"-" env:"-" help:"The program that the unit starts. Default: this one, as it was called." placeholder:"PATH"`
	NotifyReload bool   `setting:"-" env:"-" help:"Use Type=notify-reload, which systemd 253 and later know; earlier ones refuse it. The unit may run on another machine than this, so it is not looked up."`

	settings.Server
	Config settings.File `help:"YAML file with settings; the keys are the names of the flags of 'holdfast serve'." placeholder:"FILE"`
}

// Socket is a flag that may have a value.
type Socket struct {
	Wanted   bool
	Listener string
}

// IsBool makes kong take the flag without a value.
func (*Socket) IsBool() bool { return true }

// Decode takes the value after =, if there is one.
func (s *Socket) Decode(ctx *kong.DecodeContext) error {
	s.Wanted = true
	if ctx.Scan.Peek().Type == kong.FlagValueToken {
		return ctx.Scan.PopValueInto("listener", &s.Listener)
	}
	return nil
}

// Run prints one unit.
func (c *Command) Run(ctx *kong.Context, out io.Writer) error {
	u, err := c.unit(ctx)
	if err != nil {
		return err
	}
	text, err := u.Service()
	if c.Socket.Wanted {
		text, err = u.Socket(c.Socket.Listener)
	}
	if err != nil {
		return err
	}
	for _, line := range u.Warnings() {
		_, _ = fmt.Fprintln(ctx.Stderr, "holdfast: warning:", line)
	}
	_, err = io.WriteString(out, text)
	return err
}

func (c *Command) unit(ctx *kong.Context) (systemd.Unit, error) {
	u := systemd.Unit{
		Name: c.Name, User: c.User, NotifyReload: c.NotifyReload, UnixMode: uint32(c.UnixMode),
		DrainTimeout: c.DrainTimeout, StopDelay: c.StopDelay, UpgradeTimeout: c.UpgradeTimeout + c.Canary + c.Probation,
	}
	if c.User {
		u.RuntimeDir = cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), fmt.Sprintf("/run/user/%d", os.Getuid()))
	}
	var err error
	if u.Binary, err = program(c.Binary); err != nil {
		return u, err
	}
	// The service starts in the root directory.
	config := string(c.Config)
	files := []*string{&c.PIDFile, &c.StateDir, &c.LogFile, &c.TLSCert, &c.TLSKey, &c.TokenFile, &config}
	for _, path := range files {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return u, err
		}
	}
	c.Config = settings.File(config)
	u.PIDFile, u.StateDir, u.LogFile = c.PIDFile, c.StateDir, c.LogFile
	for _, path := range files[3:] {
		if *path != "" {
			u.Reads = append(u.Reads, *path)
		}
	}
	u.Args = given(ctx)
	return u, c.addresses(&u)
}

// addresses adds what the service listens on.
func (c *Command) addresses(u *systemd.Unit) error {
	cfg := c.Server.Config()
	listeners, err := cfg.Addresses()
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	admin, err := cfg.AdminAddresses() // the default is beside the PID file
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	u.Listeners, u.Admin = convert(listeners), convert(admin)
	return nil
}

func convert(as []handoff.Address) []systemd.ListenAddress {
	var ls []systemd.ListenAddress
	for _, a := range as {
		ls = append(ls, systemd.ListenAddress{Name: a.Name, Network: a.Network, Addr: a.Addr})
	}
	return ls
}

// program is the absolute path of the program that the unit starts. By default it is the one
// by which this process was called, and not what that leads to: behind a symbolic link
// there may be another release tomorrow.
func program(path string) (string, error) {
	if path != "" {
		return filepath.Abs(path)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("which program? Name it with --binary: %w", err)
	}
	// Argument 0 is whatever the caller made of it.
	if called, err := exec.LookPath(os.Args[0]); err == nil || errors.Is(err, exec.ErrDot) {
		if called, err = filepath.Abs(called); err == nil && same(called, self) {
			return called, nil
		}
	}
	return self, nil
}

func same(path, other string) bool {
	one, err1 := os.Stat(path)
	two, err2 := os.Stat(other)
	return err1 == nil && err2 == nil && os.SameFile(one, two)
}

// given writes the settings that a flag or the environment sets as arguments, in the
// order of the help text.
func given(ctx *kong.Context) []string {
	set := map[string]bool{}
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved {
			set[p.Flag.Name] = true
		}
	}
	elsewhere := []string{"pid-file", "state-dir"} // systemd.Unit has them
	var args []string
	for _, f := range ctx.Selected().Flags {
		for _, env := range f.Envs {
			_, ok := os.LookupEnv(env)
			set[f.Name] = set[f.Name] || ok
		}
		if set[f.Name] && settings.IsSetting(f) && !slices.Contains(elsewhere, f.Name) {
			args = append(args, settings.Args(f)...)
		}
	}
	return args
}
