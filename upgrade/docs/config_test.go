package docs

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// TestConfigurationIsLoaded gives each YAML block to the parser of `holdfast check`.
func TestConfigurationIsLoaded(t *testing.T) {
	for _, b := range blocks(t, "yaml") {
		path := filepath.Join(t.TempDir(), "config.yml")
		require.NoError(t, os.WriteFile(path, []byte(b.text), 0o600))
		var c struct {
			Check struct {
				settings.Server
				Config settings.File
			} `cmd:""`
		}
		k, err := kong.New(&c, kong.Writers(io.Discard, io.Discard))
		require.NoError(t, err)
		_, err = k.Parse([]string{"check", "--config", path})
		require.NoError(t, err, "%s", b)
	}
}

func TestJSONIsWellFormed(t *testing.T) {
	for _, b := range blocks(t, "json") {
		require.True(t, json.Valid([]byte(b.text)), "%s", b)
	}
}
