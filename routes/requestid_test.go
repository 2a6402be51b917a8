package routes

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequestID(t *testing.T) {
	log, lines := newLog()
	r := New(Deps{Log: log})
	for _, tc := range []struct {
		name  string
		given []string
		taken bool
	}{
		{"none", nil, false},
		{"uuid", []string{"7f3c1c1e-5a0e-4b55-9d2a-0d4b7f1f5f7e"}, true},
		{"128 bytes", []string{strings.Repeat("a", 128)}, true},
		{"129 bytes", []string{strings.Repeat("a", 129)}, false},
		{"empty", []string{""}, false},
		{"space", []string{"a b"}, false},
		{"line break", []string{"a\r\nX-Evil: 1"}, false},
		{"escape", []string{"a\x1b[2J"}, false},
		{"not ascii", []string{"naïve"}, false},
		{"del", []string{"a\x7f"}, false},
		{"quote", []string{`a","level":"error`}, false},
		{"tag", []string{"<script>"}, false},
		{"shell", []string{"$(reboot)"}, false},
		{"two", []string{"a", "b"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := httptest.NewRequest("GET", "/nothing", nil)
			if tc.given != nil {
				req.Header["X-Request-Id"] = tc.given
			}
			w := serveOne(r, req)
			got := w.Header().Values("X-Request-Id")
			require.Len(t, got, 1)
			if tc.taken {
				require.Equal(t, tc.given[0], got[0])
			} else {
				require.Regexp(t, `^[A-Z2-7]{26}$`, got[0])
			}
			e := requireError(t, answer{w.Code, w.Header(), w.Body.String()}, 404, "not_found")
			require.Equal(t, got[0], e.RequestID)
			require.Equal(t, got[0], lines.next(t, "request")["request_id"])
		})
	}
}
