package control

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/handoff"
)

// Not net/http/pprof: whoever imports that has its handlers in http.DefaultServeMux,
// which may be what the service shows to the world.

const (
	profilePath    = "/debug/pprof/"
	profileSeconds = 30 // of a CPU profile, as go tool pprof expects it
	traceSeconds   = 1
	// maxProfileSeconds bounds what a client can ask for.
	maxProfileSeconds = 300
)

// profile answers what go tool pprof and go tool trace ask. A profile costs, and shows
// much of the inside, so it needs what a change needs.
func (s *Server) profile(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		fail(w, http.StatusMethodNotAllowed, "method_not_allowed", profilePath+" takes GET")
		return
	}
	if !s.mayChange(w, r) {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch name := strings.TrimPrefix(r.URL.Path, profilePath); name {
	case "":
		listProfiles(w)
	case "profile":
		record(w, r, profileSeconds, func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile)
	case "trace":
		record(w, r, traceSeconds, func() error { return trace.Start(w) }, trace.Stop)
	default:
		snapshot(w, r, name)
	}
}

func listProfiles(w http.ResponseWriter) {
	names := []string{"profile", "trace"}
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	slices.Sort(names)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintln(w, strings.Join(names, "\n"))
}

// snapshot writes one of the runtime's profiles. ?debug=1 makes it text, ?gc=1 collects
// garbage before a heap profile.
func snapshot(w http.ResponseWriter, r *http.Request, name string) {
	p := pprof.Lookup(name)
	if p == nil {
		fail(w, http.StatusNotFound, "not_found", "no such profile: GET "+profilePath+" lists them")
		return
	}
	debug, _ := strconv.Atoi(r.FormValue("debug"))
	if gc, _ := strconv.Atoi(r.FormValue("gc")); name == "heap" && gc > 0 {
		runtime.GC()
	}
	contentType := "application/octet-stream"
	if debug > 0 {
		contentType = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", contentType)
	_ = p.WriteTo(w, debug)
}

// record writes what is recorded over ?seconds=. It ends early, with what there is by
// then, when the client leaves or another generation answers.
func record(w http.ResponseWriter, r *http.Request, seconds float64, start func() error, stop func()) {
	if v := r.FormValue("seconds"); v != "" {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !(n > 0 && n <= maxProfileSeconds) {
			fail(w, http.StatusBadRequest, "bad_seconds", fmt.Sprintf("seconds is a number above 0 and at most %d", maxProfileSeconds))
			return
		}
		seconds = n
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := start(); err != nil {
		fail(w, http.StatusConflict, "busy", "one is being recorded already: try again later")
		return
	}
	defer stop()
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	case <-handoff.Leaving(r.Context()):
	}
}
