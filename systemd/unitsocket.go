package systemd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// socketName is what a listener may be called in FileDescriptorName= and in a file's
// name.
var socketName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// socket is what socket.tmpl fills in.
type socket struct {
	Unit
	Directory, Base, Systemctl   string
	Listener                     string
	Listen, Mode                 string
	Unix, Abstract, BothFamilies bool
}

// Socket prints the socket unit of a listener, the only one if listener is empty.
// Each listener needs a unit of its own, since a unit has one FileDescriptorName=. An
// error says which listeners there are, or what no unit can express.
func (u Unit) Socket(listener string) (string, error) {
	u, err := u.checked()
	if err != nil {
		return "", err
	}
	i, err := u.choose(listener)
	if err != nil {
		return "", err
	}
	l := u.Listeners[i]
	if !socketName.MatchString(l.Name) {
		return "", fmt.Errorf("the listener's name %q: a socket unit wants letters, digits, and any of _ . -", l.Name)
	}
	s := socket{
		Unit: u, Directory: "/etc/systemd/system", Base: u.socketUnit(i), Systemctl: "systemctl", Listener: l.Name,
		Mode: fmt.Sprintf("%04o", u.UnixMode), Unix: l.Network == "unix", Abstract: strings.HasPrefix(l.Addr, "@"),
	}
	if u.User {
		s.Directory, s.Systemctl = "~/.config/systemd/user", "systemctl --user"
	}
	if s.Unix {
		s.Listen = u.pathValue(l.Addr)
		return render(socketTemplate, s)
	}
	if s.Listen, s.BothFamilies, err = l.listenStream(); err != nil {
		return "", err
	}
	return render(socketTemplate, s)
}

// socketUnit is the file of the i-th listener's unit. The first one bears the service's
// name, and so needs no other name when listeners join.
func (u Unit) socketUnit(i int) string {
	if i == 0 {
		return u.Name + ".socket"
	}
	return u.Name + "-" + u.Listeners[i].Name + ".socket"
}

func (u Unit) choose(listener string) (int, error) {
	var flags []string
	for _, l := range u.Listeners {
		flags = append(flags, "--socket="+l.Name)
	}
	switch {
	case len(u.Listeners) == 0:
		return 0, errors.New("the service has no listeners")
	case listener == "" && len(u.Listeners) == 1:
		return 0, nil
	case listener == "":
		return 0, fmt.Errorf("each listener has a socket unit of its own: %s", strings.Join(flags, ", "))
	}
	i := slices.IndexFunc(u.Listeners, func(l ListenAddress) bool { return l.Name == listener })
	if i < 0 {
		return 0, fmt.Errorf("no listener is called %q: %s", listener, strings.Join(flags, ", "))
	}
	return i, nil
}

// listenStream writes a TCP address as systemd.socket(5) reads it, and tells whether
// it means both families, as Go's net package has it.
func (l ListenAddress) listenStream() (string, bool, error) {
	host, _, err := net.SplitHostPort(l.Addr)
	if err != nil {
		return "", false, err
	}
	port, err := l.port()
	if err != nil {
		return "", false, err
	}
	if port == 0 {
		return "", false, fmt.Errorf("address %s: a socket unit needs a port, not 0", l.Addr)
	}
	if host == "" {
		return strconv.Itoa(port), true, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", false, fmt.Errorf("address %s: a socket unit needs an IP address, not a name", l.Addr)
	}
	zone := ip.Zone()
	text := netip.AddrPortFrom(ip.WithZone(""), uint16(port)).String()
	if zone != "" {
		text += "%%" + percent(zone)
	}
	return text, ip == netip.IPv6Unspecified(), nil
}
