// A bad release: finds that it cannot work, and says so at length.
package main

import (
	"fmt"
	"os"

	"github.com/holdfast-go/holdfast/upgrade"
)

func main() {
	upgrade.CaptureStderr()
	for i := 1; i < 30; i++ {
		fmt.Fprintln(os.Stderr, "step", i)
	}
	fmt.Fprintln(os.Stderr, "bad release: no key")
	os.Exit(3)
}
