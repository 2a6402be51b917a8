package settings

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade"
	"github.com/holdfast-go/holdfast/upgrade/control"
)

// Client holds the settings by which a command finds a running service: those of
// [Server] with the same names.
type Client struct {
	Admin     []string `help:"The service's admin listener. Default: unix:PATH.admin beside the PID file." placeholder:"ADDR"`
	PIDFile   string   `name:"pid-file" help:"The service's PID file." placeholder:"PATH"`
	StateDir  string   `help:"Directory of the service's reports. Default: that of the PID file." placeholder:"DIR"`
	TokenFile string   `help:"File with the bearer token, for upgrades over TCP." placeholder:"FILE"`
	Config    File     `help:"The service's YAML file with settings." placeholder:"FILE"`
}

// Validate refuses what finds no service.
func (c *Client) Validate() error {
	if err := checkAdmin(c.Admin); err != nil {
		return err
	}
	if len(c.Admin) == 0 && c.PIDFile == "" {
		return errors.New("which service? Name its --pid-file or its --admin address (or HOLDFAST_PID_FILE, HOLDFAST_ADMIN)")
	}
	return nil
}

// Address is where the service listens: a Unix socket if there is one.
func (c *Client) Address() (handoff.Address, error) {
	as, err := upgrade.Config{Admin: c.Admin, PIDFile: c.PIDFile}.AdminAddresses()
	if err != nil {
		return handoff.Address{}, fmt.Errorf("--admin: %w", err)
	}
	if len(as) == 0 {
		return handoff.Address{}, errors.New("this service has no admin listener (--admin none): use kill -USR2 and holdfast wait")
	}
	if i := slices.IndexFunc(as, func(a handoff.Address) bool { return a.Network == "unix" }); i > 0 {
		return as[i], nil
	}
	return as[0], nil
}

// Connect makes a client for it. Nothing is sent yet.
func (c *Client) Connect() (*control.Client, error) {
	token, err := readToken(c.TokenFile)
	if err != nil {
		return nil, err
	}
	a, err := c.Address()
	if err != nil {
		return nil, err
	}
	return control.NewClient(a, token), nil
}

// ReportsFile is where the service keeps its reports; empty if it cannot be known.
func (c *Client) ReportsFile() string {
	return upgrade.Config{PIDFile: c.PIDFile, StateDir: c.StateDir}.ReportsFile()
}
