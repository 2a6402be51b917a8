package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/control"
	"github.com/holdfast-go/holdfast/upgrade/settings"
)

// LogLevel is the command that shows what a service logs, and changes it.
type LogLevel struct {
	settings.Client
	Level string        `arg:"" optional:"" help:"The new level: trace, debug, info, warn, error or disabled. Default: show the level, and change nothing."`
	For   time.Duration `help:"Return to the configured level after this time. Default: when the next generation begins."`
	JSON  bool          `name:"json" help:"Print JSON."`
}

// Run shows the level, after the change if one is asked for.
func (l *LogLevel) Run(out io.Writer) error {
	if l.Level != "" {
		if _, err := control.ParseLevel(l.Level); err != nil {
			return err
		}
	}
	if l.For < 0 || (l.For > 0 && l.Level == "") {
		return errors.New("--for: want a positive duration, and a level to hold that long")
	}
	c, err := l.Connect()
	if err != nil {
		return err
	}
	ctx, cancel := background(lookTimeout)
	defer cancel()
	var now control.LogLevel
	if l.Level == "" {
		now, err = c.LogLevel(ctx)
	} else {
		now, err = c.SetLogLevel(ctx, l.Level, l.For)
	}
	if err != nil {
		return err
	}
	if l.JSON {
		return json.NewEncoder(out).Encode(now)
	}
	text := "log level " + now.Level
	switch {
	case now.Until != nil:
		text += fmt.Sprintf(" until %s, then %s", now.Until.Local().Format(time.DateTime), now.Configured)
	case now.Level != now.Configured:
		text += fmt.Sprintf(" until the next generation, which begins with %s", now.Configured)
	}
	_, err = fmt.Fprintln(out, text)
	return err
}
