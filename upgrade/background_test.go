package upgrade

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHookDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		defer close(forever)
		for _, tc := range []struct {
			name string
			run  func(context.Context) error
			want string
		}{
			{"done", func(context.Context) error { return nil }, ""},
			{"failed", func(context.Context) error { return errors.New("no database") }, "failed: no database"},
			{"heeds", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "context deadline exceeded"},
			{"deaf", func(context.Context) error { <-forever; return nil }, "deaf: not done: context deadline exceeded"},
		} {
			began := time.Now()
			err := hook{tc.name, tc.run}.call(t.Context(), time.Second)
			if tc.want == "" {
				require.NoError(t, err)
				continue
			}
			require.ErrorContains(t, err, tc.want)
			require.LessOrEqual(t, time.Since(began), time.Second)
		}
	})
}

func TestCrewWaitsForItsFunctions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		require.NoError(t, c.stop(t.Context()), "never started")
		ended := 0
		c.hooks = []hook{{"slow to end", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended++
			return nil
		}}}
		c.start()
		require.NoError(t, c.stop(t.Context()))
		require.Equal(t, 1, ended)
	})
}

func TestCrewThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forever := make(chan struct{})
		c := crew{hooks: []hook{{"deaf", func(context.Context) error { <-forever; return nil }}}}
		c.start()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, c.stop(ctx), "background work does not end")
		close(forever)
		<-c.done
	})
}
