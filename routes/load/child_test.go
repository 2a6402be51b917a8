package load

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

// childRole names the environment variable that turns the test binary into a server.
const childRole = "HOLDFAST_LOAD_CHILD"

const generationVariable = "HOLDFAST_LOAD_GENERATION"

// runChild is a server on tableflip that does its upgrades as Holdfast does, seen from
// without, but loses requests while it drains: it calls http.Server.Shutdown. Roles:
//
//	good   works
//	exit   exits at once with status 3
//	mute   serves and does not say so
//	stuck  its second generation never becomes ready
//	dies   exits when it is told to upgrade
//	stray  leaves a process behind
//	deaf   ignores SIGTERM
func runChild(role string) int {
	fs := flag.NewFlagSet("serve", flag.ExitOnError)
	addr := fs.String("addr", "", "")
	pidFile := fs.String("pid-file", "", "")
	fs.Bool("identify", false, "")
	fs.String("log-format", "", "")
	_ = fs.Parse(os.Args[2:])
	if role == "exit" {
		fmt.Fprintln(os.Stderr, "cannot start: no such luck")
		return 3
	}
	before, _ := strconv.Atoi(os.Getenv(generationVariable))
	generation := before + 1
	_ = os.Setenv(generationVariable, strconv.Itoa(generation))

	if err := serveChild(role, *addr, *pidFile, generation); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serveChild(role, addr, pidFile string, generation int) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGUSR2, syscall.SIGTERM)
	upg, err := tableflip.New(tableflip.Options{PIDFile: pidFile, UpgradeTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer upg.Stop()
	ln, err := upg.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: goodHandler(os.Getpid(), generation, nil), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	if role == "stuck" && generation == 2 {
		select {}
	}
	if role == "stray" {
		if _, err := os.StartProcess("/bin/sleep", []string{"sleep", "60"}, &os.ProcAttr{}); err != nil {
			return err
		}
	}
	if err := upg.Ready(); err != nil {
		return err
	}
	if role != "mute" {
		_ = json.NewEncoder(os.Stderr).Encode(map[string]any{"message": "serving", "addrs": []string{address(ln)}})
	}
	go func() {
		for s := range signals {
			switch {
			case s == syscall.SIGTERM && role != "deaf":
				upg.Stop()
			case s == syscall.SIGUSR2 && role == "dies":
				os.Exit(0)
			case s == syscall.SIGUSR2:
				// tableflip refuses until it has seen its parent's end, which may be
				// after others have. Holdfast queues instead.
				_ = upg.WaitForParent(context.Background())
				_ = upg.Upgrade()
			}
		}
	}()
	<-upg.Exit()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func address(ln net.Listener) string { return "http=" + ln.Addr().String() }
