package supervise

import (
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want []string // of the command; nil: refused
		says string
	}{
		{[]string{"--pid-file", "p", "--", "app", "--flag", "--", "x"}, []string{"app", "--flag", "--", "x"}, ""},
		{[]string{"--pid-file", "p", "app", "--pid-file", "q"}, []string{"app", "--pid-file", "q"}, ""},
		{[]string{"--pid-file", "p", "--stop-timeout", "0s", "--", "app"}, nil, "positive duration"},
		{[]string{"--pid-file", "p", "--log-level", "loud", "--", "app"}, nil, "want trace"},
		{[]string{"--", "app"}, nil, "--pid-file"},
		{[]string{"--pid-file", "p"}, nil, "<command>"},
		{[]string{"--pid-file", "p", "--"}, nil, "command"},
	} {
		var c Command
		k, err := kong.New(&c)
		require.NoError(t, err)
		_, err = k.Parse(tc.args)
		if tc.want == nil {
			require.ErrorContains(t, err, tc.says, "%v", tc.args)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "p", c.PIDFile)
		require.Equal(t, tc.want, c.Command, "%v", tc.args)
	}
}
