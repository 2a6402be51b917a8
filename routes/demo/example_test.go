package demo_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/routes/demo"
)

// Three upgrades of a holdfast binary, under twice the load. The program that calls it
// must not be that binary.
func ExampleRun() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := demo.Run(ctx, os.Stdout, demo.Options{Binary: "./holdfast", Upgrades: 3, Scale: 2}); err != nil {
		log.Fatal(err) // requests were lost, or an upgrade failed
	}
}
