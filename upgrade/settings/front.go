package settings

import (
	"errors"

	"github.com/holdfast-go/holdfast/handoff"
	"github.com/holdfast-go/holdfast/upgrade"
)

// Front holds the settings by which a command finds a service where the service's
// clients do: those of [Server] with the same names.
type Front struct {
	Addr    []string `help:"Where the service listens, as it was told; the first one is asked." default:":8080" placeholder:"ADDR"`
	TLSCert string   `name:"tls-cert" help:"The service's certificate chain: with one it is asked over TLS." placeholder:"FILE"`
	Config  File     `help:"The service's YAML file with settings." placeholder:"FILE"`
}

// Address is the first of the service's addresses, and whether it speaks TLS there.
func (f *Front) Address() (a handoff.Address, tls bool, err error) {
	as, err := upgrade.Config{Addrs: f.Addr, TLSCertFile: f.TLSCert}.Addresses()
	if err != nil {
		return a, false, err
	}
	if len(as) == 0 {
		return a, false, errors.New("where does the service listen? Name its --addr (or HOLDFAST_ADDR)")
	}
	a = as[0]
	a.Name = ""
	return a, f.TLSCert != "", nil
}
