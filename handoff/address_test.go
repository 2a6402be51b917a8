package handoff

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		":8080":              {"", "tcp", ":8080"},
		"127.0.0.1:0":        {"", "tcp", "127.0.0.1:0"},
		"[::1]:80":           {"", "tcp", "[::1]:80"},
		"admin=localhost:81": {"admin", "tcp", "localhost:81"},
		":http":              {"", "tcp", ":http"},
		"unix:/run/a.sock":   {"", "unix", "/run/a.sock"},
		"a=unix:/run/b=c":    {"a", "unix", "/run/b=c"},
		"unix:/run/b=c":      {"", "unix", "/run/b=c"},
		"unix:@abstract":     {"", "unix", "@abstract"},
	} {
		got, err := ParseAddress(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
		again, err := ParseAddress(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again, "String gives what ParseAddress reads")
	}
	for in, want := range map[string]string{
		"":                                       "want HOST:PORT",
		"8080":                                   "want HOST:PORT",
		"::1:80":                                 "want HOST:PORT",
		":":                                      "unknown port",
		":65536":                                 "outside 0..65535",
		":-1":                                    "outside 0..65535",
		":nonsense":                              "unknown port",
		"=:80":                                   "name before = is empty",
		"unix:":                                  "is empty",
		"unix:@":                                 "is empty",
		"unix:a":                                 "must be absolute",
		"unix:" + "/" + strings.Repeat("x", 107): "at most",
	} {
		_, err := ParseAddress(in)
		require.ErrorContains(t, err, want, in)
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("a=unix:/x")
	f.Add("[::1]:80")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String())
		if err != nil || again != a {
			t.Errorf("%q: %v, then %v, %v", s, a, again, err)
		}
	})
}
