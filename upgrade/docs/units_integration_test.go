//go:build integration

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/routes/load/loadtest"
)

// program finds what a unit starts: systemd-analyze wants it to be there.
var program = regexp.MustCompile(`(?m)^(Exec\w+=[-@:+!]*)(/opt/\S+)`)

// TestUnitsAreVerified gives each block of a unit to systemd's own parser. One that
// starts nothing, as a drop-in does, is verified in front of a service that does.
func TestUnitsAreVerified(t *testing.T) {
	loadtest.Tool(t, "systemd-analyze")
	for _, b := range blocks(t, "ini") {
		text := program.ReplaceAllString(b.text, "${1}/bin/true")
		name := "app.service"
		switch {
		case strings.Contains(text, "[Socket]"):
			name = "app.socket"
		case strings.Contains(text, "[Timer]"):
			name = "app.timer"
		}
		dir := t.TempDir()
		if name != "app.service" || !strings.Contains(text, "ExecStart=") {
			plain := "[Service]\nExecStart=/bin/true\n"
			if name == "app.service" {
				text, plain = text+"\n"+plain, ""
			}
			if plain != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "app.service"), []byte(plain), 0o600))
			}
		}
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		cmd := exec.Command("systemd-analyze", "verify", "--man=no", path)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", b, out)
		require.Empty(t, strings.TrimSpace(string(out)), "%s", b)
	}
}
