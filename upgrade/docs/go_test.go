package docs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/holdfast-go/holdfast"

// imports are the packages that a block may use without saying so.
var imports = map[string]string{
	"atomic": "sync/atomic", "context": "context", "errors": "errors", "fmt": "fmt", "http": "net/http", "io": "io", "json": "encoding/json",
	"log": "log", "net": "net", "os": "os", "strconv": "strconv", "strings": "strings", "sync": "sync", "time": "time",
	"gin": "github.com/gin-gonic/gin", "zerolog": "github.com/rs/zerolog",
	"control": module + "/upgrade/control", "handoff": module + "/handoff", "health": module + "/upgrade/health", "load": module + "/routes/load",
	"report": module + "/upgrade/report", "routes": module + "/routes", "systemd": module + "/systemd", "upgrade": module + "/upgrade",
}

// assumed is what a block may use that stands in the service around it.
var assumed = map[string]string{
	"ctx":          "var ctx = context.Background()",
	"logger":       "var logger zerolog.Logger",
	"r":            "var r *gin.Engine",
	"handler":      "var handler http.Handler",
	"p":            "var p *upgrade.Process",
	"entries":      "var entries chan string",
	"fillCache":    "func fillCache(context.Context) error { return nil }",
	"refresh":      "func refresh(context.Context) error { return nil }",
	"runScheduler": "func runScheduler(context.Context) error { return nil }",
	"closePool":    "func closePool(context.Context) error { return nil }",
}

// source makes a block of Go a package that compiles if the block is right: a whole
// file, which need not be linked here; declarations, or statements in a function, with their imports and what
// they assume.
func source(b block) (string, error) {
	fset := token.NewFileSet()
	if strings.HasPrefix(strings.TrimSpace(b.text), "package ") {
		return strings.Replace(b.text, "package main\n", "package p\n", 1), nil
	}
	body := b.text
	f, err := parser.ParseFile(fset, "", "package p\n"+body, 0)
	if err != nil {
		body = "func _() {\n" + b.text + "\n" + useAll(b.text) + "}\n"
		if f, err = parser.ParseFile(fset, "", "package p\n"+body, 0); err != nil {
			return "", err
		}
	}
	// What the block uses and does not declare itself, in its code and then in what it
	// assumes.
	missing := map[string]bool{}
	for _, id := range f.Unresolved {
		missing[id.Name] = true
	}
	head, around := "", ""
	for _, name := range slices.Sorted(maps.Keys(assumed)) {
		if missing[name] {
			around += assumed[name] + "\n"
		}
	}
	f, err = parser.ParseFile(fset, "", "package p\n"+around+body, 0)
	if err != nil {
		return "", err
	}
	for _, id := range f.Unresolved {
		if path := imports[id.Name]; path != "" && !strings.Contains(head, "\""+path+"\"") {
			head += "import \"" + path + "\"\n"
		}
	}
	return "package p\n" + head + around + body, nil
}

// useAll uses the variables of a block that is the beginning of something.
func useAll(text string) (uses string) {
	f, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+text+"\n}", 0)
	if err != nil {
		return ""
	}
	for _, s := range f.Decls[0].(*ast.FuncDecl).Body.List {
		if a, ok := s.(*ast.AssignStmt); ok && a.Tok == token.DEFINE {
			for _, e := range a.Lhs {
				if id := e.(*ast.Ident); id.Name != "_" {
					uses += "_ = " + id.Name + "\n"
				}
			}
		}
	}
	return uses
}

// overlay lays sources over the module, each as a package of its own, so that the go
// command sees them with the module's own dependencies. It returns their import paths.
func overlay(t *testing.T, sources []string) (file string, paths []string) {
	t.Helper()
	dir := t.TempDir()
	abs, err := filepath.Abs(".")
	require.NoError(t, err)
	replace := map[string]string{}
	for i, text := range sources {
		name := fmt.Sprintf("block%d", i)
		real := filepath.Join(dir, name+".go")
		require.NoError(t, os.WriteFile(real, []byte(text), 0o600))
		replace[filepath.Join(abs, name, "block.go")] = real
		paths = append(paths, "./"+name)
	}
	j, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	file = filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, j, 0o600))
	return file, paths
}

// TestGoCompiles has each block of Go compiled.
func TestGoCompiles(t *testing.T) {
	var sources []string
	where := ""
	for _, b := range blocks(t, "go") {
		text, err := source(b)
		require.NoError(t, err, "%s", b)
		formatted, err := format.Source([]byte(b.text))
		require.NoError(t, err, "%s", b)
		require.Equal(t, string(formatted), b.text, "%s is not formatted", b)
		where += fmt.Sprintf("\nblock%d is %s", len(sources), b)
		sources = append(sources, text)
	}
	file, paths := overlay(t, sources)
	out, err := exec.Command("go", append([]string{"build", "-overlay", file}, paths...)...).CombinedOutput()
	require.NoError(t, err, "%s%s\nWhat a block assumes stands in this file.", out, where)
}
