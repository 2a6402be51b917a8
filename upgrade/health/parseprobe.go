package health

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const probeExample = `for example "http GET /readyz status=200 within=200ms", "tcp 127.0.0.1:5432" or "exec /usr/bin/check --fast"`

// maxLimit bounds the durations in a text: more is a slip of the unit.
const maxLimit = time.Hour

// ParseProbe reads the text form of a probe, words with spaces between:
//
//	http [METHOD] PATH [at=ADDR] [status=N|status=N..M] [body~TEXT] [header:NAME=VALUE]… [LIMIT]…
//	tcp ADDR [LIMIT]…
//	exec PROGRAM [ARG]… [LIMIT]…
//
//	ADDR   HOST:PORT or unix:PATH
//	LIMIT  within=DURATION or timeout=DURATION
//
// A word with spaces stands in quotes: body~"all is well". The limits of exec are
// its last words; in quotes they are arguments. See [HTTP], [TCP], [Exec] and
// [Probe] for what each part means.
func ParseProbe(s string) (*Probe, error) {
	ws, err := split(s)
	if err == nil {
		var p *Probe
		if p, err = probeOf(ws); err == nil {
			return p, nil
		}
	}
	return nil, fmt.Errorf("probe %q: %w; %s", clip(s), err, probeExample)
}

func probeOf(ws []word) (*Probe, error) {
	if len(ws) == 0 {
		return nil, errors.New("the kind is missing: want http, tcp or exec")
	}
	p := &Probe{}
	var err error
	switch kind, rest := ws[0].text, ws[1:]; kind {
	case "http":
		err = p.parseHTTP(texts(rest))
	case "tcp":
		err = p.parseTCP(texts(rest))
	case "exec":
		err = p.parseExec(rest)
	default:
		return nil, fmt.Errorf("%q is not a kind of probe: want http, tcp or exec", clip(kind))
	}
	if err == nil && p.Timeout > 0 && p.Within > p.Timeout {
		err = fmt.Errorf("within=%s can never be seen with timeout=%s", shortDuration(p.Within), shortDuration(p.Timeout))
	}
	return p, err
}

func (p *Probe) parseHTTP(words []string) error {
	h := &HTTP{Method: http.MethodGet}
	if len(words) > 0 && !strings.HasPrefix(words[0], "/") {
		h.Method = words[0]
		if strings.ContainsFunc(h.Method, func(r rune) bool { return r < 'A' || r > 'Z' }) || h.Method == "" {
			return fmt.Errorf("%q is neither a method, such as GET, nor a path, such as /readyz", clip(h.Method))
		}
		words = words[1:]
	}
	if len(words) == 0 {
		return errors.New("the path is missing")
	}
	h.Path = words[0]
	if u, err := url.ParseRequestURI(h.Path); err != nil || u.Scheme != "" || !strings.HasPrefix(h.Path, "/") || strings.ContainsAny(h.Path, " #") {
		return fmt.Errorf("%q is not a path, such as /readyz; another process is asked with at=HOST:PORT", clip(h.Path))
	}
	p.Check = h
	seen := map[string]bool{}
	for _, w := range words[1:] {
		key, value, sep := option(w)
		if sep && seen[key] {
			return fmt.Errorf("%s stands there twice", key)
		}
		seen[key] = true
		var err error
		name, isHeader := strings.CutPrefix(key, "header:")
		switch {
		case sep && key == "at":
			h.At, err = value, checkAddr(value)
		case sep && key == "status":
			h.From, h.To, err = statusRange(value)
		case sep && key == "body":
			if h.Body = value; value == "" {
				err = errors.New("body~ lacks the text to look for")
			}
		case sep && isHeader:
			err = h.expect(name, value)
		default:
			err = p.limit(w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// option cuts body~TEXT and KEY=VALUE.
func option(w string) (key, value string, ok bool) {
	if v, is := strings.CutPrefix(w, "body~"); is {
		return "body", v, true
	}
	key, value, ok = strings.Cut(w, "=")
	return key, value, ok && key != "body"
}

func (h *HTTP) expect(name, value string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%q is not the name of a header", clip(name))
	}
	name = http.CanonicalHeaderKey(name)
	if _, twice := h.Header[name]; twice {
		return fmt.Errorf("header:%s stands there twice", name)
	}
	if h.Header == nil {
		h.Header = map[string]string{}
	}
	h.Header[name] = value
	return nil
}

func statusRange(s string) (from, to int, err error) {
	low, high, isRange := strings.Cut(s, "..")
	if !isRange {
		high = low
	}
	from, err = strconv.Atoi(low)
	if err == nil {
		to, err = strconv.Atoi(high)
	}
	if err != nil || from < 100 || to > 599 || from > to {
		return 0, 0, fmt.Errorf("status=%s: want 100 to 599, such as 204, or a range, such as 200..299", clip(s))
	}
	return from, to, nil
}

func (p *Probe) parseTCP(words []string) error {
	if len(words) == 0 {
		return errors.New("the address is missing")
	}
	p.Check = &TCP{Addr: words[0]}
	if err := checkAddr(words[0]); err != nil {
		return err
	}
	for _, w := range words[1:] {
		if err := p.limit(w); err != nil {
			return err
		}
	}
	return nil
}

func (p *Probe) parseExec(ws []word) error {
	n := len(ws)
	for n > 0 && !ws[n-1].quoted && execOption(ws[n-1].text) {
		n--
	}
	if n == 0 || ws[0].text == "" {
		return errors.New("the program is missing")
	}
	p.Check = &Exec{Argv: texts(ws[:n])}
	for _, w := range ws[n:] {
		if err := p.limit(w.text); err != nil {
			return err
		}
	}
	return nil
}

func execOption(s string) bool {
	return strings.HasPrefix(s, "within=") || strings.HasPrefix(s, "timeout=")
}

// limit reads what every kind of probe may have.
func (p *Probe) limit(w string) error {
	key, value, _ := strings.Cut(w, "=")
	var d *time.Duration
	switch key {
	case "within":
		d = &p.Within
	case "timeout":
		d = &p.Timeout
	default:
		return fmt.Errorf("%q is not known here", clip(w))
	}
	if *d != 0 {
		return fmt.Errorf("%s stands there twice", key)
	}
	v, err := limitDuration(value)
	if err != nil {
		return fmt.Errorf("%s=%w", key, err)
	}
	*d = v
	return nil
}

// limitDuration reads a duration that bounds something.
func limitDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > maxLimit {
		return 0, fmt.Errorf("%s: want a duration of at most 1h, such as 200ms or 5s", clip(s))
	}
	return d, nil
}

// clip shortens what an error repeats.
func clip(s string) string {
	if len(s) <= 160 {
		return s
	}
	return strings.ToValidUTF8(s[:160], "") + "…"
}
