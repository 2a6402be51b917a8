package systemd

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// go test ./systemd -run Shipped -update
var update = flag.Bool("update", false, "write the units that ship")

// documented are the settings that README and deploy.sh speak of.
func documented() Unit {
	return Unit{
		Name: "holdfast", Binary: "/opt/holdfast/current/holdfast", Args: []string{"--config", "/etc/holdfast/config.yml"},
		Listeners: []ListenAddress{{"http", "tcp", ":8080"}}, UnixMode: 0o660,
		DrainTimeout: 30 * time.Second, UpgradeTimeout: time.Minute,
	}
}

// TestShippedUnits: there is one source for what ships and what is printed.
func TestShippedUnits(t *testing.T) {
	service, err := documented().Service()
	require.NoError(t, err)
	socket, err := documented().Socket("")
	require.NoError(t, err)
	for name, text := range map[string]string{"holdfast.service": service, "holdfast.socket": socket} {
		if *update {
			require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		}
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, text, string(b), "print it anew: go test ./systemd -run Shipped -update")
	}
}

// lines are what a unit says, without comments.
func lines(text string) []string {
	var ls []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && line[0] != '#' {
			ls = append(ls, line)
		}
	}
	return ls
}

// TestUnitOptions wants these lines for each setting, in the place of what the plain
// service has under the same keys.
func TestUnitOptions(t *testing.T) {
	at := func(network, addr string) []ListenAddress { return []ListenAddress{{"http", network, addr}} }
	for name, tc := range map[string]struct {
		change   func(*Unit)
		has, not []string
	}{
		"a name": {
			func(u *Unit) { u.Name = "web-2" },
			[]string{"User=web-2", "Group=web-2", "RuntimeDirectory=web-2", "StateDirectory=web-2", "PIDFile=%t/web-2/web-2.pid"},
			nil,
		},
		"a user's": {
			func(u *Unit) { u.User, u.RuntimeDir = true, "/run/user/7" },
			[]string{"WantedBy=default.target", "NoNewPrivileges=yes", "UMask=0077", "PIDFile=%t/holdfast/holdfast.pid"},
			[]string{"User=", "Group=", "After=", "Protect", "Private", "Capability", "Ambient", "LimitNOFILE=", "ReadWritePaths=", "RemoveIPC="},
		},
		"a user's own places": {
			func(u *Unit) {
				u.User, u.RuntimeDir = true, "/run/user/7"
				u.PIDFile, u.StateDir, u.LogFile = "/run/user/7/app/a.pid", "/var/lib/app", "/home/u/a.log"
				u.Listeners = at("unix", "/run/app/s")
			},
			[]string{"PIDFile=%t/app/a.pid", "RuntimeDirectory=app"},
			[]string{"StateDirectory=", "ReadWritePaths="},
		},
		"notify-reload": {
			func(u *Unit) { u.NotifyReload = true },
			[]string{"Type=notify-reload", "ReloadSignal=SIGUSR2"},
			[]string{"ExecReload=/bin/kill"},
		},
		"long times": {
			func(u *Unit) { u.DrainTimeout, u.UpgradeTimeout = 1500*time.Millisecond, 10*time.Minute },
			[]string{"TimeoutStopSec=17s", "TimeoutStartSec=617s"},
			nil,
		},
		"a stop with a delay": {
			func(u *Unit) { u.StopDelay = time.Minute },
			[]string{"TimeoutStopSec=105s", "TimeoutStartSec=105s"},
			nil,
		},
		"port 80":             {func(u *Unit) { u.Listeners = at("tcp", ":80") }, []string{"AmbientCapabilities=CAP_NET_BIND_SERVICE", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"}, nil},
		"port https":          {func(u *Unit) { u.Listeners = at("tcp", "[::1]:https") }, []string{"AmbientCapabilities=CAP_NET_BIND_SERVICE"}, nil},
		"port 1024":           {func(u *Unit) { u.Listeners = at("tcp", ":1024") }, []string{"CapabilityBoundingSet="}, []string{"AmbientCapabilities="}},
		"port 0":              {func(u *Unit) { u.Listeners = at("tcp", ":0") }, []string{"CapabilityBoundingSet="}, []string{"AmbientCapabilities="}},
		"an admin port":       {func(u *Unit) { u.Admin = []ListenAddress{{"admin", "tcp", "127.0.0.1:81"}} }, []string{"AmbientCapabilities=CAP_NET_BIND_SERVICE"}, nil},
		"an interface":        {func(u *Unit) { u.Listeners = at("tcp", "[fe80::1%eth0]:8080") }, []string{"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK"}, nil},
		"an abstract socket":  {func(u *Unit) { u.Listeners = at("unix", "@s") }, []string{"RuntimeDirectoryPreserve=restart"}, []string{"ReadWritePaths="}},
		"a socket inside":     {func(u *Unit) { u.Listeners = at("unix", "/run/holdfast/s") }, []string{"RuntimeDirectory=holdfast", "RuntimeDirectoryPreserve=yes"}, []string{"ReadWritePaths="}},
		"a socket by its":     {func(u *Unit) { u.Listeners = at("unix", "/run/nginx/s") }, []string{"RuntimeDirectory=holdfast", "RuntimeDirectoryPreserve=restart", "ReadWritePaths=/run/nginx"}, nil},
		"sockets elsewhere":   {func(u *Unit) { u.Listeners = at("unix", "/srv/100%/a b/s") }, []string{`ReadWritePaths="/srv/100%%/a b"`}, nil},
		"the admin's socket":  {func(u *Unit) { u.Admin = at("unix", "/run/holdfast/admin") }, []string{"RuntimeDirectoryPreserve=restart"}, nil},
		"a PID file in /run":  {func(u *Unit) { u.PIDFile = "/run/app/x/a.pid" }, []string{"PIDFile=%t/app/x/a.pid", "RuntimeDirectory=app/x"}, nil},
		"in /var/run":         {func(u *Unit) { u.PIDFile = "/var/run/app/a.pid" }, []string{"PIDFile=%t/app/a.pid", "RuntimeDirectory=app"}, nil},
		"a PID file as such":  {func(u *Unit) { u.PIDFile = "/run/a.pid" }, []string{"PIDFile=%t/a.pid", "ReadWritePaths=/run"}, []string{"RuntimeDirectory"}},
		"a PID file in /srv":  {func(u *Unit) { u.PIDFile = "/srv/5%/a b.pid" }, []string{"PIDFile=/srv/5%%/a b.pid", "ReadWritePaths=/srv/5%%"}, []string{"RuntimeDirectory"}},
		"a state directory":   {func(u *Unit) { u.StateDir = "/var/lib/app" }, []string{"StateDirectory=app"}, []string{"ReadWritePaths="}},
		"one elsewhere":       {func(u *Unit) { u.StateDir = "/srv/state" }, []string{"ReadWritePaths=/srv/state"}, []string{"StateDirectory="}},
		"a log file":          {func(u *Unit) { u.LogFile = "/var/log/holdfast/a.log" }, []string{"LogsDirectory=holdfast"}, []string{"ReadWritePaths="}},
		"a log file by other": {func(u *Unit) { u.LogFile = "/var/log/app/a.log" }, []string{"ReadWritePaths=/var/log/app"}, []string{"LogsDirectory="}},
		"an everyday command": {
			func(u *Unit) {
				u.Binary, u.StateDir = "/opt/a b/hold%fast", "/srv/state"
				u.Args = []string{"--gate", `exec sh -c "echo $x 5%"`, "--addr", "", "--x=ü", "\n\x01;", ";"}
			},
			[]string{`ExecStart="/opt/a b/hold%%fast" serve --pid-file %t/holdfast/holdfast.pid --state-dir /srv/state --gate "exec sh -c \"echo $$x 5%%\"" --addr "" "--x=ü" "\x0a\x01;" ";"`},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := documented()
			tc.change(&u)
			text, err := u.Service()
			require.NoError(t, err)
			got := lines(text)
			for _, want := range tc.has {
				require.Contains(t, got, want)
			}
			for _, no := range tc.not {
				for _, line := range got {
					require.False(t, strings.HasPrefix(line, no), line)
				}
			}
			require.NotContains(t, text, "\n\n\n")
			require.NotContains(t, text, "<no value>")
		})
	}
	u := documented()
	u.PIDFile = "/run/5% $x/a.pid"
	u.UpgradeTimeout = time.Hour
	text, err := u.Service()
	require.NoError(t, err)
	require.Contains(t, text, ` wait --timeout 3645s --pid-file "$$1"`)
	require.Contains(t, text, ` sh "%t/5%% $$x/a.pid" $MAINPID`)
	require.Contains(t, lines(text), `RuntimeDirectory="5%% $x"`)
	require.Contains(t, lines(text), "PIDFile=%t/5%% $x/a.pid")
}

func TestWhatNoUnitExpresses(t *testing.T) {
	for want, change := range map[string]func(*Unit){
		`the name "Web"`: func(u *Unit) { u.Name = "Web" },
		`the name ""`:    func(u *Unit) { u.Name = "" },
		"quotes":         func(u *Unit) { u.Binary = `/opt/"x"/holdfast` },
		"${":             func(u *Unit) { u.Binary = "/opt/${x}/holdfast" },
		"backslashes":    func(u *Unit) { u.PIDFile = `/srv/a\b.pid` },
		"the setting":    func(u *Unit) { u.Args = []string{"\xff"} },
		"control":        func(u *Unit) { u.StateDir = "/srv/a\nb" },
		`"/srv/\xff"`:    func(u *Unit) { u.LogFile = "/srv/\xff" },
		"the blank":      func(u *Unit) { u.Listeners[0].Network, u.Listeners[0].Addr = "unix", "/srv/a " },
	} {
		u := documented()
		change(&u)
		_, err := u.Service()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
		require.Empty(t, u.Warnings(), "the error says it")
	}
}

func TestSocketUnits(t *testing.T) {
	for addr, want := range map[string][]string{
		":8080":               {"ListenStream=8080", "BindIPv6Only=both", "NoDelay=yes"},
		":http":               {"ListenStream=80", "BindIPv6Only=both"},
		"0.0.0.0:8080":        {"ListenStream=0.0.0.0:8080"},
		"127.0.0.1:8080":      {"ListenStream=127.0.0.1:8080"},
		"[::]:8080":           {"ListenStream=[::]:8080", "BindIPv6Only=both"},
		"[::1]:8080":          {"ListenStream=[::1]:8080"},
		"[fe80::1%eth0]:8080": {"ListenStream=[fe80::1]:8080%%eth0"},
		"/run/holdfast/5%":    {"ListenStream=%t/holdfast/5%%", "SocketMode=0660", "SocketUser=holdfast", "SocketGroup=holdfast", "RemoveOnStop=yes"},
		"/srv/a b":            {"ListenStream=/srv/a b"},
		"@a":                  {"ListenStream=@a", "SocketMode=0660"},
	} {
		u := documented()
		u.Listeners[0].Addr = addr
		if addr[0] == '/' || addr[0] == '@' {
			u.Listeners[0].Network = "unix"
		}
		text, err := u.Socket("")
		require.NoError(t, err)
		got := lines(text)
		for _, line := range append(want, "FileDescriptorName=http", "Service=holdfast.service") {
			require.Contains(t, got, line)
		}
		both := "BindIPv6Only=both"
		if len(want) < 2 || want[1] != both {
			require.NotContains(t, got, both, addr)
		}
		require.NotContains(t, text, "\n\n\n")
	}
	for addr, want := range map[string]string{":0": "needs a port", "localhost:80": "an IP address, not a name"} {
		u := documented()
		u.Listeners[0].Addr = addr
		_, err := u.Socket("")
		require.ErrorContains(t, err, want)
	}

	u := documented()
	u.User = true
	u.Listeners = append(u.Listeners, ListenAddress{"inner", "unix", "/srv/s"})
	text, err := u.Socket("inner")
	require.NoError(t, err)
	require.Contains(t, text, "~/.config/systemd/user/holdfast-inner.socket\n")
	require.NotContains(t, text, "SocketUser=")
	text, err = u.Socket("http")
	require.NoError(t, err)
	require.Contains(t, text, "systemctl --user enable --now holdfast.socket.")
	_, err = u.Socket("")
	require.ErrorContains(t, err, "a socket unit of its own: --socket=http, --socket=inner")
	_, err = u.Socket("x")
	require.ErrorContains(t, err, `no listener is called "x": --socket=http, --socket=inner`)
	u.Listeners[1].Name = "a b"
	_, err = u.Socket("a b")
	require.ErrorContains(t, err, "letters, digits")
	u.Listeners = nil
	_, err = u.Socket("")
	require.ErrorContains(t, err, "no listeners")
	u.Name = "a b"
	_, err = u.Socket("")
	require.ErrorContains(t, err, "the name")
}
