package systemd_test

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/systemd"
)

// A service with Type=notify, with or without a manager, and with the sockets that a
// socket unit passes.
func ExampleNotifier() {
	manager := systemd.New()
	passed, err := systemd.Listeners()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, ln := range passed["http"] { // FileDescriptorName=http
		server := &http.Server{ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = server.Serve(ln) }()
	}
	manager.Extend(30*time.Second, "warming up") // it may take that long
	// When it is back, systemd has read it: the process before may exit.
	fmt.Println(manager.Ready("serving", os.Getpid()))
	// Output:
	// <nil>
}
