package systemd

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// plain is what needs no quotes in a unit, whatever the place.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=@+,%~^-]+$`)

// percent escapes what systemd.unit(5) calls specifiers.
func percent(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// word writes an argument of a command as systemd.service(5) reads it: specifiers and
// variables are doubled, and quotes, blanks and control characters escaped as C does.
func word(s string) string { return quoteWord("", s) }

// quoteWord is word with a specifier before it.
func quoteWord(specifier, s string) string {
	s = strings.ReplaceAll(percent(s), "$", "$$")
	if plain.MatchString(s) {
		return specifier + s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + specifier + b.String() + `"`
}

// programWord writes the program of a command line. It is a path, and not a word like
// the others: variables are not replaced in it, and the manager refuses some characters
// however they are written.
func programWord(path string) (string, error) {
	if err := checkPath(path); err != nil {
		return "", err
	}
	if strings.Contains(path, "${") {
		return "", fmt.Errorf("the path %q: systemd takes ${ for a variable in the name that it gives the process: install the program elsewhere", path)
	}
	if s := percent(path); plain.MatchString(s) {
		return s, nil
	}
	return `"` + percent(path) + `"`, nil
}

// checkPath refuses what cannot stand in a setting that takes a path: there, escapes
// are read in one setting and not in another.
func checkPath(path string) error {
	for _, r := range path {
		if r < ' ' || r == 0x7f || r == utf8.RuneError || // the manager's own messages are UTF-8
			strings.ContainsRune(`"'\`, r) {
			return fmt.Errorf("the path %q: systemd cannot take quotes, backslashes or control characters: choose another one", path)
		}
	}
	if strings.HasSuffix(path, " ") {
		return fmt.Errorf("the path %q: systemd drops the blank at its end: choose another one", path)
	}
	return nil
}

// list writes the items of a setting that takes several, such as ReadWritePaths=.
func list(items []string) string {
	var out []string
	for _, s := range items {
		s = percent(s)
		if !plain.MatchString(s) {
			s = `"` + s + `"`
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
