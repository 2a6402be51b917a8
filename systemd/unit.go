package systemd

import (
	_ "embed"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"
)

var (
	//go:embed service.tmpl
	serviceText string
	//go:embed socket.tmpl
	socketText string

	serviceTemplate = template.Must(template.New("service").Parse(serviceText))
	socketTemplate  = template.Must(template.New("socket").Parse(socketText))
)

// Unit says how a service is installed; [Unit.Service] and [Unit.Socket] print its
// units. holdfast.service and holdfast.socket beside this file are what they print for
// the documented defaults.
type Unit struct {
	// Name is that of the units, of the system's user and group that the service runs
	// as, and of its directories below /run and /var/lib. It is a user's name:
	// useradd(8).
	Name string
	// User makes them units of a user's manager: `systemctl --user`.
	User bool
	// NotifyReload takes Type=notify-reload, which is of systemd 253. Earlier ones do
	// not start such a unit.
	NotifyReload bool

	// Binary is the absolute path of the program, and Args what follows "serve" on its
	// command line, less --pid-file and --state-dir, which are made of the next two.
	Binary string
	Args   []string
	// PIDFile and StateDir are absolute. By default %t/NAME/NAME.pid and %S/NAME, as
	// systemd.unit(5) has these specifiers.
	PIDFile, StateDir string
	// LogFile is absolute, and empty if there is none; it is among Args.
	LogFile string

	// Listeners are what the service listens on. Their names differ. Admin is the
	// admin listener: without a socket unit, but with what binding it needs.
	Listeners, Admin []ListenAddress
	// UnixMode is the permission of Unix sockets, for the socket unit.
	UnixMode uint32

	// DrainTimeout bounds a drain and, behind StopDelay, a stop; UpgradeTimeout an
	// upgrade in all its phases up to the commit.
	DrainTimeout, StopDelay, UpgradeTimeout time.Duration

	// Reads are files that the service reads: [Unit.Warnings] looks at them.
	Reads []string
	// RuntimeDir is the user's, $XDG_RUNTIME_DIR; "/run" for the system.
	RuntimeDir string
}

// ListenAddress is a listener as net.Listen takes it, under a name.
type ListenAddress struct {
	Name    string
	Network string // "tcp" or "unix"
	Addr    string
}

const (
	// margin is what the manager waits beyond the bounds that the service keeps itself.
	margin = 15 * time.Second
	// waitDefault is the default --timeout of `holdfast wait`.
	waitDefault = 10 * time.Minute
	// fileDescriptors bounds the sockets that the manager keeps. More than a service has
	// listeners, for an upgrade may add some.
	fileDescriptors = 64
)

// unitName is what useradd accepts everywhere, which is a unit's name as well.
var unitName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)

// service is what service.tmpl fills in.
type service struct {
	Unit
	PIDFile, PIDWord          string
	Start                     string
	WaitTimeout               string
	TimeoutStart, TimeoutStop string
	FileDescriptors           int
	RuntimeDirectories        string
	SocketInside              bool
	StateDirectory            string
	LogsDirectory             string
	ReadWritePaths            string
	Privileged, Netlink       bool
}

// Service prints the service unit. An error says what no unit can express.
func (u Unit) Service() (string, error) {
	u, err := u.checked()
	if err != nil {
		return "", err
	}
	program, _ := programWord(u.Binary) // it is checked
	d := u.directories()
	longest := u.DrainTimeout + u.UpgradeTimeout + margin
	s := service{
		Unit: u, PIDFile: u.pathValue(u.PIDFile), PIDWord: u.pathWord(u.PIDFile),
		TimeoutStart: seconds(longest), TimeoutStop: seconds(u.StopDelay + u.DrainTimeout + margin),
		FileDescriptors:    fileDescriptors,
		RuntimeDirectories: list(d.runtime), SocketInside: d.socketInside,
		StateDirectory: list(d.state), LogsDirectory: list(d.logs), ReadWritePaths: list(d.writes),
		Privileged: slices.ContainsFunc(u.all(), ListenAddress.privileged),
		Netlink:    slices.ContainsFunc(u.all(), ListenAddress.zoned),
	}
	if longest > waitDefault {
		s.WaitTimeout = seconds(longest)
	}
	words := []string{program, "serve", "--pid-file", s.PIDWord, "--state-dir", u.pathWord(u.StateDir)}
	for _, arg := range u.Args {
		words = append(words, word(arg))
	}
	s.Start = strings.Join(words, " ")
	return render(serviceTemplate, s)
}

// checked refuses what no unit can express and fills in the defaults.
func (u Unit) checked() (Unit, error) {
	if !unitName.MatchString(u.Name) {
		return u, fmt.Errorf("the name %q: want one that a user may have, for example web-2: it becomes that of the unit and, in the system, of its user", u.Name)
	}
	if u.RuntimeDir == "" {
		u.RuntimeDir = "/run"
	}
	if u.PIDFile == "" {
		u.PIDFile = filepath.Join(runtimeSpecifier, u.Name, u.Name+".pid")
	}
	if u.StateDir == "" {
		u.StateDir = filepath.Join(stateSpecifier, u.Name)
	}
	if _, err := programWord(u.Binary); err != nil {
		return u, err
	}
	for _, arg := range u.Args {
		if !utf8.ValidString(arg) || strings.Contains(arg, "\x00") {
			return u, fmt.Errorf("the setting %q: systemd wants UTF-8: write it another way, or into the configuration file", arg)
		}
	}
	paths := []string{u.PIDFile, u.StateDir, u.LogFile}
	for _, l := range u.all() {
		if l.Network == "unix" {
			paths = append(paths, l.Addr)
		}
	}
	for _, p := range paths {
		if err := checkPath(p); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (u Unit) all() []ListenAddress { return slices.Concat(u.Listeners, u.Admin) }

// privileged tells whether binding it needs CAP_NET_BIND_SERVICE: capabilities(7).
func (l ListenAddress) privileged() bool {
	port, err := l.port()
	return err == nil && port > 0 && port < 1024
}

// port is the number; an error for a Unix socket.
func (l ListenAddress) port() (int, error) {
	if l.Network != "tcp" {
		return 0, fmt.Errorf("%s has no port", l.Addr)
	}
	_, port, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return 0, err
	}
	return net.LookupPort("tcp", port)
}

// zoned tells whether it names an interface, as in [fe80::1%eth0]:80.
func (l ListenAddress) zoned() bool { return l.Network == "tcp" && strings.Contains(l.Addr, "%") }

// seconds rounds up. systemd.time(7): a number without a unit is in seconds; `holdfast
// wait` wants the unit.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) + "s"
}

func render(t *template.Template, data any) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("systemd: print a unit: %w", err)
	}
	return b.String(), nil
}
