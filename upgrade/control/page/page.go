// Package page is the status page of a service: static files in the binary, which a
// browser gets from the admin listener and which then follow the stream of server-sent
// events there (package control).
//
// # Promise
//
// One page, no build step, and nothing from anywhere else: no script, style, font or
// image. It shows an upgrade from beginning to end without being loaded again, since
// its stream goes on with the generation that serves then. It says how old what it
// shows is, and that it has lost the service when it has. What a service or a client
// of it sends is shown as text and never as markup; the Content-Security-Policy
// (https://www.w3.org/TR/CSP3/) lets the browser see to that, too.
//
// It can be used by keyboard and with a screen reader, in the dark, on a narrow screen,
// and holds still for whoever asks for less motion.
//
// # Limits
//
// The figures go back five minutes. The bearer token is in the page's memory until it
// is closed. A browser opens six connections to a host in HTTP/1.1: that is the number
// of pages that one browser can follow.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"time"
)

//go:embed index.html page.css page.js charts.js words.js icon.svg
var files embed.FS

// file is one of them, ready to be sent.
type file struct {
	name, kind string
	content    []byte
	tag        string // ETag
}

// policy permits what is here and nothing else. Nobody may frame the page, and what a
// script puts into it is never parsed as HTML.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

var all, version = load()

// load reads the files, by their pattern in a mux, and makes one name of them all.
func load() (map[string]file, string) {
	m, together := map[string]file{}, sha256.New()
	for _, f := range []struct{ path, name, kind string }{
		{"/{$}", "index.html", "text/html; charset=utf-8"},
		{"/page.css", "page.css", "text/css; charset=utf-8"},
		{"/page.js", "page.js", "text/javascript; charset=utf-8"},
		{"/charts.js", "charts.js", "text/javascript; charset=utf-8"},
		{"/words.js", "words.js", "text/javascript; charset=utf-8"},
		{"/icon.svg", "icon.svg", "image/svg+xml"},
	} {
		b, err := files.ReadFile(f.name)
		if err != nil {
			panic(err) // the compiler has seen it
		}
		sum := sha256.Sum256(b)
		m[f.path] = file{f.name, f.kind, b, `"` + hex.EncodeToString(sum[:8]) + `"`}
		together.Write(b)
	}
	return m, hex.EncodeToString(together.Sum(nil)[:8])
}

// Version identifies the content of the page. It differs in a binary with another one.
func Version() string { return version }

// Paths are the patterns of the page's files, for an [http.ServeMux].
func Paths() []string {
	var paths []string
	for path := range all {
		paths = append(paths, path)
	}
	return paths
}

// Handler serves the files; its requests are GET and HEAD. A browser may keep them, but asks each
// time whether they are still the same: the next generation may have others.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		if path == "/" {
			path = "/{$}"
		}
		f, ok := all[path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.kind)
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", f.tag)
		http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
	})
}
