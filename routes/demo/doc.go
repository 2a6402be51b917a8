// Package demo is the newcomer's first minute: a server under load, upgraded five
// times by the real signal, with every request counted.
//
// [Run] starts the program's own "serve" on a free loopback port, sends it the load
// of package load, upgrades it, shows what happens meanwhile, and ends with a table
// and a verdict.
//
// # Promise
//
//   - The upgrades are the ones of production: SIGUSR2 to the process that the PID
//     file names. The new binary is the same file, which to the server is no
//     difference.
//   - One lost request makes Run fail. The server's log is then kept, and the error
//     says where.
//   - When Run returns, whether it was interrupted or not, the server is gone with all
//     of its generations, and so is the temporary directory unless there is a failure
//     to look into.
//
// # Limits
//
// The load is for a laptop with two cores and shows that nothing is lost, not how
// fast the server is: client and server share the machine. If the demo itself is
// killed by SIGKILL, the server, which is in a process group of its own, stays.
//
// # Example
//
//	err := demo.Run(ctx, os.Stdout, demo.Options{Upgrades: 5})
package demo
