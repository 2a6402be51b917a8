package health

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds the text of a probe or a rule.
const maxText = 4096

// word is one word of a text. A quoted one is never taken for an option.
type word struct {
	text   string
	quoted bool
}

// split cuts a text into words at spaces and tabs. Quotes keep them together, and
// may begin within a word: body~"all is well". In double quotes a backslash
// takes the next character as it is; in single quotes, and outside, it is itself.
func split(s string) ([]word, error) {
	if len(s) > maxText {
		return nil, fmt.Errorf("%d bytes are too long: want at most %d", len(s), maxText)
	}
	if !utf8.ValidString(s) {
		return nil, errors.New("want UTF-8")
	}
	var (
		words   []word
		b       strings.Builder
		quote   rune
		escaped bool
		in      bool // within a word
		quoted  bool
	)
	for _, r := range s {
		switch {
		case unicode.IsControl(r) && r != '\t':
			return nil, fmt.Errorf("the control character %U cannot be meant", r)
		case escaped:
			escaped = false
			b.WriteRune(r)
		case quote == '"' && r == '\\':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			b.WriteRune(r)
		case r == '"' || r == '\'':
			quote, in, quoted = r, true, true
		case r == ' ' || r == '\t':
			if in {
				words = append(words, word{b.String(), quoted})
				b.Reset()
				in, quoted = false, false
			}
		default:
			in = true
			b.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c is not closed", quote)
	}
	if in {
		words = append(words, word{b.String(), quoted})
	}
	return words, nil
}

// quote writes a word so that split gives it back.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\"'") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// texts are the words without the knowledge of their quotes.
func texts(ws []word) []string {
	var ss []string
	for _, w := range ws {
		ss = append(ss, w.text)
	}
	return ss
}
