package settings_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// A command of one's own with the settings of the server: flags over environment over
// file over default.
func ExampleServer() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "app.yml")
	if err := os.WriteFile(file, []byte("drain-timeout: 45s\nlog-level: debug\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	var cli struct {
		Serve struct {
			settings.Server
			Config settings.File
		} `cmd:""`
	}
	parser, err := kong.New(&cli, kong.DefaultEnvars("APP"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = parser.Parse([]string{"serve", "--config", file, "--log-level", "warn"})
	cfg := cli.Serve.Server.Config()
	fmt.Println(cfg.DrainTimeout, cli.Serve.LogLevel, cfg.Addrs, cfg.HandoffTimeout, err)
	_, err = parser.Parse([]string{"serve", "--drain-timeout", "0s"})
	fmt.Println(err)
	// Output:
	// 45s warn [:8080] 10s <nil>
	// serve: --drain-timeout=0s: want a positive duration, for example 30s
}
