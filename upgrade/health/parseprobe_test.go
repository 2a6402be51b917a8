package health

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseProbe(t *testing.T) {
	for _, tt := range []struct {
		text string
		want *Probe
		back string // the text form; the text itself where empty
	}{
		{"http GET /readyz", &Probe{Check: &HTTP{Method: "GET", Path: "/readyz"}}, ""},
		{"http /readyz", &Probe{Check: &HTTP{Method: "GET", Path: "/readyz"}}, "http GET /readyz"},
		{
			"http GET /readyz status=200 body~ok header:x-app=1 within=200ms",
			&Probe{Check: &HTTP{Method: "GET", Path: "/readyz", From: 200, To: 200, Body: "ok", Header: map[string]string{"X-App": "1"}}, Within: 200 * time.Millisecond},
			"http GET /readyz status=200 body~ok header:X-App=1 within=200ms",
		},
		{"http HEAD /a?b=c status=200..204", &Probe{Check: &HTTP{Method: "HEAD", Path: "/a?b=c", From: 200, To: 204}}, ""},
		{`http GET / body~"all is well"`, &Probe{Check: &HTTP{Method: "GET", Path: "/", Body: "all is well"}}, `http GET / "body~all is well"`},
		{"http GET / body~a=b", &Probe{Check: &HTTP{Method: "GET", Path: "/", Body: "a=b"}}, ""},
		{`http GET / body~'say "hi"'`, &Probe{Check: &HTTP{Method: "GET", Path: "/", Body: `say "hi"`}}, `http GET / "body~say \"hi\""`},
		{"http GET / at=127.0.0.1:8080 timeout=1m", &Probe{Check: &HTTP{Method: "GET", Path: "/", At: "127.0.0.1:8080"}, Timeout: time.Minute}, ""},
		{"http GET / at=unix:/run/app.sock", &Probe{Check: &HTTP{Method: "GET", Path: "/", At: "unix:/run/app.sock"}}, ""},
		{"tcp 127.0.0.1:5432 within=1s", &Probe{Check: &TCP{"127.0.0.1:5432"}, Within: time.Second}, ""},
		{"tcp [::1]:5432", &Probe{Check: &TCP{"[::1]:5432"}}, ""},
		{"exec /usr/bin/check-db --fast within=5s", &Probe{Check: &Exec{[]string{"/usr/bin/check-db", "--fast"}}, Within: 5 * time.Second}, ""},
		{`exec check within=1s x "within=5s" timeout=9s`, &Probe{Check: &Exec{[]string{"check", "within=1s", "x", "within=5s"}}, Timeout: 9 * time.Second}, `exec check "within=1s" x "within=5s" timeout=9s`},
		{`exec sh -c 'exit 1' ""`, &Probe{Check: &Exec{[]string{"sh", "-c", "exit 1", ""}}}, `exec sh -c "exit 1" ""`},
	} {
		t.Run(tt.text, func(t *testing.T) {
			p, err := ParseProbe(tt.text)
			require.NoError(t, err)
			assert.Equal(t, tt.want, p)
			if tt.back == "" {
				tt.back = tt.text
			}
			assert.Equal(t, tt.back, p.String())
		})
	}
}

func TestParseProbeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "the kind is missing",
		"htp GET /":                         `"htp" is not a kind of probe: want http, tcp or exec`,
		"http":                              "the path is missing",
		"http GET":                          "the path is missing",
		"http get /":                        `"get" is neither a method`,
		"http GET readyz":                   `"readyz" is not a path`,
		"http GET http://h/":                `"http://h/" is not a path`,
		"http GET /%zz":                     "is not a path",
		"http GET / status=99":              "status=99: want 100 to 599",
		"http GET / status=300..200":        "status=300..200",
		"http GET / status=ok":              "status=ok",
		"http GET / status=200 status=1":    "status stands there twice",
		"http GET / body~":                  "body~ lacks the text",
		"http GET / body=ok":                `"body=ok" is not known here`,
		"http GET / header:=1":              `"" is not the name of a header`,
		"http GET / header:A=1 header:a=":   "header:A stands there twice",
		"http GET / at=nowhere":             `"nowhere" is not an address`,
		"http GET / within=fast":            "within=fast: want a duration",
		"http GET / within=0s":              "within=0s: want a duration",
		"http GET / within=2h":              "at most 1h",
		"http GET / within=5s timeout=1s":   "within=5s can never be seen with timeout=1s",
		"http GET / fast":                   `"fast" is not known here`,
		"tcp":                               "the address is missing",
		"tcp localhost":                     `"localhost" is not an address`,
		"tcp localhost:0":                   "is not an address",
		"tcp unix:":                         "lacks the path",
		"tcp a:1 status=200":                `"status=200" is not known here`,
		"exec":                              "the program is missing",
		"exec within=5s":                    "the program is missing",
		"exec a within=1s within=2s":        "within stands there twice",
		`exec "a`:                           "is not closed",
		"exec a\nb":                         "control character U+000A",
		"exec \xff":                         "want UTF-8",
		"exec " + strings.Repeat("a", 5000): "too long",
	} {
		_, err := ParseProbe(text)
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), want)
		assert.Contains(t, err.Error(), "for example")
		assert.NotContains(t, err.Error(), "\n")
		assert.Less(t, len(err.Error()), 900)
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add("http GET /readyz status=200 body~ok header:X-App=1 within=200ms")
	f.Add("tcp 127.0.0.1:5432 within=1s")
	f.Add(`exec /usr/bin/check-db "--fast x" 'y' timeout=5s`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseProbe(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than a line: %q", err)
			}
			return
		}
		again, err := ParseProbe(p.String())
		if err != nil && len(p.String()) > maxText {
			return // quotes make it longer
		}
		if err != nil {
			t.Fatalf("%q gives %q: %v", s, p, err)
		}
		assert.Equal(t, p, again)
	})
}
