// A bad release: its check is content, unless mode is "check"; then it never becomes
// ready: it ends, or hangs if mode is "hangs".
package main

import (
	"fmt"
	"os"
	"time"
)

// mode is set by the linker.
var mode string

func main() {
	checked := len(os.Args) > 1 && os.Args[1] == "check"
	switch {
	case checked && mode == "check":
		fmt.Fprintln(os.Stderr, "bad release: no certificate")
	case checked:
		return
	case mode == "hangs":
		time.Sleep(time.Hour)
	default:
		fmt.Fprintln(os.Stderr, "bad release: no database")
	}
	os.Exit(1)
}
