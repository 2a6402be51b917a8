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
