// Package docs has no code: its tests run what the documents say. Each fenced block of
// each Markdown file of the repository is compiled, loaded or executed, by its language;
// one that nobody can check fails the test.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const root = "../.."

// checkers says which test looks at the blocks of a language.
var checkers = map[string]string{
	"go":      "TestGoCompiles and TestProgramsAreUpgraded",
	"yaml":    "TestConfigurationIsLoaded",
	"json":    "TestJSONIsWellFormed",
	"ini":     "TestUnitsAreVerified",
	"console": "TestCommandsRun",
}

// block is a fenced block of a document.
type block struct {
	file string // from the root
	line int    // of its first line of text
	lang string
	text string
}

func (b block) String() string { return b.file + ":" + strconv.Itoa(b.line) }

// blocks reads every document.
func blocks(t *testing.T, lang string) (all []block) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		all = append(all, fenced(t, name, string(b))...)
		return err
	}))
	if lang == "" {
		return all
	}
	var some []block
	for _, b := range all {
		if b.lang == lang {
			some = append(some, b)
		}
	}
	return some
}

// fenced finds the blocks of one document. A fence is at least three backticks, and
// its end has as many (CommonMark 4.5); an indented one is that of a list item.
func fenced(t *testing.T, file, text string) (all []block) {
	t.Helper()
	var open *block
	var fence, indent string
	n := 0
	for line := range strings.Lines(text) {
		n++
		bare := strings.TrimLeft(line, " ")
		ticks := bare[:len(bare)-len(strings.TrimLeft(bare, "`"))]
		switch {
		case open == nil && len(ticks) >= 3:
			fence, indent = ticks, line[:len(line)-len(bare)]
			open = &block{file: file, line: n + 1, lang: strings.TrimSpace(bare[len(ticks):])}
		case open == nil:
		case strings.TrimSpace(bare) == fence:
			all = append(all, *open)
			open = nil
		default:
			open.text += strings.TrimPrefix(line, indent)
		}
	}
	require.Nil(t, open, "%s: the block at the end has no end", file)
	return all
}

func TestEveryBlockIsTested(t *testing.T) {
	all := blocks(t, "")
	require.NotEmpty(t, all)
	files := map[string]int{}
	for _, b := range all {
		require.Contains(t, checkers, b.lang, "%s: a block in %q: nobody can check that; write it in one of these languages, or teach this package", b, b.lang)
		files[b.file]++
	}
	require.Contains(t, files, "README.md")
	t.Logf("%d blocks: %v", len(all), files)
}

func TestFences(t *testing.T) {
	got := fenced(t, "f", "a\n```go\nx\n```\n- b\n  ````yaml\n  y: 1\n  ```\n    z\n  ````\n")
	require.Equal(t, []block{{"f", 3, "go", "x\n"}, {"f", 7, "yaml", "y: 1\n```\n  z\n"}}, got)
}
