package page

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func ask(method, path string, header http.Header) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	for _, p := range Paths() {
		mux.Handle(p, Handler())
	}
	r := httptest.NewRequest(method, path, http.NoBody)
	r.Header = header
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestFiles(t *testing.T) {
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/page.css": "text/css; charset=utf-8",
		"/page.js": "text/javascript; charset=utf-8", "/charts.js": "text/javascript; charset=utf-8",
		"/words.js": "text/javascript; charset=utf-8", "/icon.svg": "image/svg+xml",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp := ask(method, path, nil)
			require.Equal(t, http.StatusOK, resp.Code, path)
			require.Equal(t, kind, resp.Header().Get("Content-Type"))
			require.Equal(t, "nosniff", resp.Header().Get("X-Content-Type-Options"))
			require.Equal(t, "no-cache", resp.Header().Get("Cache-Control"))
			policy := resp.Header().Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
				require.Contains(t, policy, want)
			}
			require.NotContains(t, policy, "unsafe")
			again := ask(method, path, http.Header{"If-None-Match": {resp.Header().Get("ETag")}})
			require.Equal(t, http.StatusNotModified, again.Code)
		}
	}
	require.Equal(t, http.StatusNotFound, ask(http.MethodGet, "/page.go", nil).Code)
	require.Equal(t, http.StatusNotFound, ask(http.MethodGet, "/nothing", nil).Code)
	require.Len(t, Version(), 16)
}

// Nothing comes from elsewhere, nothing is written as markup, and the policy would not
// let styles and scripts stand in the page.
func TestNothingFromElsewhere(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]|@import|@font-face`)
	for _, f := range all {
		text := strings.ReplaceAll(string(f.content), "http://www.w3.org/2000/svg", "")
		require.NotRegexp(t, elsewhere, text, f.name)
		for _, markup := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"} {
			require.NotContains(t, text, markup, f.name)
		}
	}
	html := string(all["/{$}"].content)
	require.NotRegexp(t, `(?i)<style|\sstyle=|\son[a-z]+=|<script(?:[^>]*)>[^<]`, html)
	require.Contains(t, html, `<html lang="en">`)
}

// Each element that the script looks for is there, once.
func TestTheScriptFindsItsElements(t *testing.T) {
	html := string(all["/{$}"].content)
	for _, m := range regexp.MustCompile(`\$\('([a-z-]+)'\)`).FindAllStringSubmatch(string(all["/page.js"].content), -1) {
		require.Equal(t, 1, strings.Count(html, `id="`+m[1]+`"`), m[1])
	}
}
