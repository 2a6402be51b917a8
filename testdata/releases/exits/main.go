// A bad release: ends at once.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bad release: no licence key")
	os.Exit(3)
}
