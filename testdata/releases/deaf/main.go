// A bad release: has lost its configuration, and asks for no listener.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/holdfast-go/holdfast/upgrade"
)

func main() {
	p, err := upgrade.New(upgrade.Config{})
	if err == nil {
		err = p.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bad release:", err)
		os.Exit(1)
	}
}
