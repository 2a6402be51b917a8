// Package cli is the commands by which an operator talks to a running service: each is
// a struct of flags with a Run method, for kong.
//
// # Promise
//
// What a command prints and its exit code are the service's own word: 0 when the
// upgrade has succeeded, and an error, which becomes 1, with the phase, the reason and
// what the new process wrote last, when it has not. If the process that was asked
// dies, the command says so, fails, and quotes what the reports say.
//
// # Limits
//
// Without an admin listener there is only `holdfast wait`.
//
// # Example
//
//	var commands struct {
//		Upgrade cli.Upgrade `cmd:"" help:"Upgrade a running service and wait for the outcome."`
//	}
//
// # Whom it asks
//
//	flags, HOLDFAST_…, --config ──▶ settings.Client ──▶ control.Client ──▶ the service
//	                                      └──▶ the file of reports, when nobody answers
package cli
