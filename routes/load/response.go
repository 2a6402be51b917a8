package load

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"
)

// Bounds of an answer's framing; its body is bounded by the caller.
const (
	maxHeaderLines = 100
	maxChunkSize   = 16 // hex digits
)

// response is a complete HTTP/1.1 answer (RFC 9112), read more strictly than a
// client has to: a judge must not mend what it reads.
type response struct {
	status int
	header []headerField
	body   []byte
}

type headerField struct{ name, value string }

// get is the value of a header that may occur once; n is how often it does.
func (r *response) get(name string) (value string, n int) {
	for _, f := range r.header {
		if strings.EqualFold(f.name, name) {
			value = f.value
			n++
		}
	}
	return value, n
}

// number is the value of a header as a number, 0 if it is none.
func (r *response) number(name string) int {
	value, _ := r.get(name)
	n, _ := strconv.Atoi(value)
	return n
}

// toldToClose reports "Connection: close".
func (r *response) toldToClose() bool {
	for _, f := range r.header {
		if !strings.EqualFold(f.name, "Connection") {
			continue
		}
		for token := range strings.SplitSeq(f.value, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "close") {
				return true
			}
		}
	}
	return false
}

// readResponse reads one answer, whose body may have limit bytes and is put into
// body's memory. Its errors have a class.
func readResponse(br *bufio.Reader, body []byte, limit int) (*response, error) {
	if _, err := br.Peek(1); err != nil {
		return nil, ioFailure("read answer", err, false)
	}
	p := &parser{br: br}
	r := &response{}
	p.statusLine(r)
	r.header = p.fields()
	r.body = p.body(r, body[:0], limit)
	if p.err != nil {
		return nil, p.err
	}
	if n := br.Buffered(); n > 0 {
		return nil, fail(Corrupt, "%d bytes that no one asked for follow the answer", n)
	}
	return r, nil
}

// parser reads until its first error, and nothing after it.
type parser struct {
	br  *bufio.Reader
	err error
}

func (p *parser) corrupt(format string, args ...any) {
	if p.err == nil {
		p.err = fail(Corrupt, format, args...)
	}
}

// line reads up to CRLF, which it takes off.
func (p *parser) line() string {
	if p.err != nil {
		return ""
	}
	b, err := p.br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull: //nolint:errorlint // returned as it is
		p.corrupt("a line of the answer is longer than %d bytes", len(b))
		return ""
	case err != nil:
		p.err = ioFailure("read answer", err, true)
		return ""
	case len(b) < 2 || b[len(b)-2] != '\r':
		p.corrupt("line %q ends without CR", b)
		return ""
	}
	return string(b[:len(b)-2])
}

func (p *parser) statusLine(r *response) {
	line := p.line()
	if p.err != nil {
		return
	}
	rest, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	code, _, hasReason := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if !ok || !hasReason || err != nil || len(code) != 3 || n < 200 || n > 599 {
		p.corrupt("status line is %q", line)
		return
	}
	r.status = n
}

// fields reads header or trailer fields and the empty line after them.
func (p *parser) fields() []headerField {
	var fields []headerField
	for {
		line := p.line()
		if p.err != nil || line == "" {
			return fields
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || hasControl(value) || len(fields) == maxHeaderLines {
			p.corrupt("header line %d is %q", len(fields), line)
			return nil
		}
		fields = append(fields, headerField{name, strings.Trim(value, " \t")})
	}
}

// isToken: RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

func (p *parser) body(r *response, into []byte, limit int) []byte {
	if p.err != nil || r.status == 204 || r.status == 304 {
		return into
	}
	length, lengths := r.get("Content-Length")
	coding, codings := r.get("Transfer-Encoding")
	switch {
	case lengths == 1 && codings == 0:
		n, err := strconv.ParseUint(length, 10, 31)
		if err != nil || int(n) > limit {
			p.corrupt("Content-Length is %q, at most %d expected", length, limit)
			return into
		}
		return p.bytes(into, int(n))
	case lengths == 0 && codings == 1 && strings.EqualFold(coding, "chunked"):
		return p.chunks(into, limit)
	}
	p.corrupt("the body has no one length: %d Content-Length, Transfer-Encoding %q", lengths, coding)
	return into
}

func (p *parser) chunks(into []byte, limit int) []byte {
	for {
		line := p.line()
		if p.err != nil {
			return into
		}
		n, err := strconv.ParseUint(line, 16, 31)
		if err != nil || len(line) > maxChunkSize || len(into)+int(n) > limit {
			p.corrupt("size of a chunk is %q after %d bytes, at most %d expected", line, len(into), limit)
			return into
		}
		if n == 0 {
			p.fields() // trailers, and the end
			return into
		}
		into = p.bytes(into, int(n))
		if end := p.line(); end != "" {
			p.corrupt("a chunk is longer than it says: %q", end)
		}
	}
}

func (p *parser) bytes(into []byte, n int) []byte {
	if p.err != nil {
		return into
	}
	at := len(into)
	into = append(into, make([]byte, n)...)
	if got, err := io.ReadFull(p.br, into[at:]); err != nil {
		p.err = ioFailure("read body, "+strconv.Itoa(at+got)+" bytes so far", err, true)
	}
	return into
}

// firstDifference is for messages: where two bodies that differ begin to.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// excerpt is the beginning of what was received, for messages.
func excerpt(b []byte) string {
	const most = 80
	b = bytes.TrimSpace(b)
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}
