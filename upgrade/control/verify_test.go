package control

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-go/holdfast/upgrade/health"
)

// Judge implements Service: what the test wants for a length of time.
func (f *fake) Judge(ctx context.Context, length time.Duration) (health.Report, error) {
	switch length {
	case time.Second:
		return health.Report{Passed: true, Reason: "all is well"}, nil
	case 2 * time.Second:
		return health.Report{Reason: "p95 is 2 s"}, nil
	case 3 * time.Second:
		return health.Report{}, ErrNoRules
	case 4 * time.Second:
		return health.Report{}, ErrJudging
	}
	<-ctx.Done()
	return health.Report{}, context.Cause(ctx)
}

func TestVerify(t *testing.T) {
	_, _, c, _ := serve(t, "unix", "")
	r, err := c.Verify(t.Context(), time.Second)
	require.NoError(t, err)
	require.True(t, r.Passed)
	require.Equal(t, "all is well", r.Reason)

	r, err = c.Verify(t.Context(), 2*time.Second)
	require.NoError(t, err, "a bad verdict is a verdict")
	require.False(t, r.Passed)

	for length, code := range map[time.Duration]string{
		3 * time.Second: "no_rules", 4 * time.Second: "judging", 0: "for", 2 * MaxVerify: "for",
	} {
		_, err = c.Verify(t.Context(), length)
		var refused *Error
		require.ErrorAs(t, err, &refused, "%s", length)
		require.Equal(t, code, refused.Code)
	}

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = c.Verify(ctx, time.Minute)
	require.ErrorIs(t, err, context.Canceled)
}

// Metrics implements [Service].
func (f *fake) Metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") })
}
