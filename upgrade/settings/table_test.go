package settings

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the README's table of settings anew")

const (
	readme     = "../../README.md"
	tableBegin = "<!-- settings: written by `go test ./upgrade/settings -run SettingsTable -update` -->\n"
	tableEnd   = "<!-- end of settings -->\n"
)

// quoted finds what --help has in quotes, and the names of flags: code in Markdown.
var quoted = regexp.MustCompile(`'([^']{2,})'|(--[a-z][a-z-]+)`)

// TestSettingsTable compares the README's table with the flags of the code.
func TestSettingsTable(t *testing.T) {
	table := settingsTable(t)
	b, err := os.ReadFile(readme)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(b), tableBegin)
	require.True(t, ok, "the README has no line %q", tableBegin)
	old, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok, "the README has no line %q", tableEnd)
	if *update {
		require.NoError(t, os.WriteFile(readme, []byte(before+tableBegin+table+tableEnd+after), 0o600))
		return
	}
	require.Equal(t, table, old, "the README's table of settings is not that of the code: go test ./upgrade/settings -run SettingsTable -update")
}

// settingsTable is the table as kong knows the flags. The environment variable and the
// key in the file follow from the name, which the README says: they need no column.
func settingsTable(t *testing.T) string {
	t.Helper()
	var c struct{ Server }
	k, err := kong.New(&c, kong.DefaultEnvars("HOLDFAST"))
	require.NoError(t, err)
	var out strings.Builder
	out.WriteString("\n| flag | default | |\n|---|---|---|\n")
	for _, f := range k.Model.Flags {
		if f.Name == "help" {
			continue
		}
		require.NotEmpty(t, f.Help, f.Name)
		require.Equal(t, []string{"HOLDFAST_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))}, f.Envs)
		name, value := "--"+f.Name, f.Default
		help, said, says := strings.Cut(f.Help, " Default: ")
		switch {
		case says: // one that depends on other settings
			value = strings.ReplaceAll(strings.TrimSuffix(said, "."), "'", "`")
		case f.IsBool() && value == "", value == "0s":
			value = "off"
		case value == "":
			value = "none"
		default:
			value = "`" + value + "`"
		}
		help = quoted.ReplaceAllStringFunc(help, func(s string) string { return "`" + strings.Trim(s, "'") + "`" })
		_, _ = fmt.Fprintf(&out, "| `%s` | %s | %s |\n", name, value, strings.ReplaceAll(help, "|", `\|`))
	}
	out.WriteString("\n")
	return out.String()
}
