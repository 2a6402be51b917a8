package report_test

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-go/holdfast/upgrade/report"
)

// The reports of a service, which another process reads.
func ExampleStore() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "app.pid.reports")
	store, err := report.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	began := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	running := report.Outcome{Number: 1, Result: report.Running, Phase: report.Gate, From: 7, Requested: began, Began: began}
	ended := running
	ended.Result, ended.Phase, ended.To, ended.Ended = report.Succeeded, "", 8, began.Add(27*time.Millisecond)
	failed := report.Outcome{Number: 2, Result: report.Failed, Phase: report.WarmUp, Reason: "no database", From: 8, Began: began.Add(time.Hour)}
	for _, o := range []report.Outcome{running, ended, failed} { // the first two are one upgrade
		if err := store.Put(o); err != nil {
			fmt.Println(err)
			return
		}
	}
	list, err := report.Read(path)
	for _, o := range list {
		fmt.Println(o)
	}
	fmt.Println(err)
	// Output:
	// upgrade 1 succeeded: pid 8 serves in place of pid 7, after 27ms
	// upgrade 2 failed (phase warm-up): no database; pid 8 goes on serving
	// <nil>
}
