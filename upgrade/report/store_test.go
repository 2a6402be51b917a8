package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func outcome(n int) Outcome {
	return Outcome{Number: n, Result: Failed, Phase: Start, Reason: "exit status 3", From: 7, Began: time.Unix(int64(n), 0).UTC(), Stderr: []string{"<bad> & ugly"}}
}

func TestStoreKeepsTheLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reports")
	s, err := Open(path)
	require.NoError(t, err)
	_, ok := s.Last()
	require.False(t, ok)
	for n := 1; n <= Keep+20; n++ {
		require.NoError(t, s.Put(outcome(n)))
	}
	require.Len(t, s.List(), Keep)
	require.Equal(t, 21, s.List()[0].Number)

	// The same upgrade again, with its account.
	o := outcome(Keep + 20)
	o.Result = Succeeded
	require.NoError(t, s.Put(o))
	again, err := Open(path)
	require.NoError(t, err)
	require.Equal(t, s.List(), again.List())
	last, ok := again.Last()
	require.True(t, ok)
	require.Equal(t, o, last)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, fi.Mode().Perm(), "stderr may hold secrets")
}

func TestStoreInMemory(t *testing.T) {
	s, err := Open("")
	require.NoError(t, err)
	require.NoError(t, s.Put(outcome(1)))
	require.NoError(t, s.Reload())
	require.Len(t, s.List(), 1)
}

func TestADamagedFileIsSetAside(t *testing.T) {
	good, err := json.Marshal(outcome(1))
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		text string
		kept int
	}{
		"cut short":     {string(good) + "\n" + string(good[:20]), 1},
		"zeros":         {strings.Repeat("\x00", 4096), 0},
		"another thing": {"{}\n" + string(good) + "\n", 1},
		"binary":        {"\xff\xfe\n\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "reports")
			require.NoError(t, os.WriteFile(path, []byte(tc.text), 0o600))
			s, err := Open(path)
			var damaged *DamagedError
			require.ErrorAs(t, err, &damaged)
			require.Len(t, s.List(), tc.kept)
			b, err := os.ReadFile(damaged.Aside)
			require.NoError(t, err)
			require.Equal(t, tc.text, string(b), "nothing of it is lost")
			require.True(t, strings.HasPrefix(damaged.Aside, path+".damaged-"))
			require.NotContains(t, damaged.Error(), "\n")
			left, err := Read(path)
			require.NoError(t, err)
			require.Len(t, left, tc.kept, "for the next process")
			require.NoError(t, s.Put(outcome(2)))
			s, err = Open(path)
			require.NoError(t, err)
			require.Len(t, s.List(), tc.kept+1)
		})
	}
}

func TestWhatCannotBeWrittenIsInMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	s, err := Open(filepath.Join(dir, "reports"))
	require.NoError(t, err, "no file is no damage")
	require.ErrorIs(t, s.Put(outcome(1)), os.ErrNotExist)
	require.Len(t, s.List(), 1)
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, s.Put(outcome(2)))
	list, err := Read(filepath.Join(dir, "reports"))
	require.NoError(t, err)
	require.Len(t, list, 2, "written with the next one")

	// A directory in its place is no file that could be set aside for damage.
	_, err = Open(dir)
	require.Error(t, err)
	require.False(t, errors.As(err, new(*DamagedError)))
}

func FuzzDecode(f *testing.F) {
	good, _ := json.Marshal(outcome(1))
	f.Add(good)
	f.Add([]byte("\n{}\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decode(b)
		if len(list) > Keep || err == nil && len(b) > 0 && len(list) == 0 {
			t.Fatalf("%d reports, %v", len(list), err)
		}
	})
}

func TestOutcomeInWords(t *testing.T) {
	o := outcome(3)
	require.Equal(t, "upgrade 3 failed (phase start): exit status 3; pid 7 goes on serving", o.String())
	o.Result, o.To, o.Requested, o.Ended = Succeeded, 8, time.Unix(0, 0), time.Unix(0, 25e6)
	require.Equal(t, "upgrade 3 succeeded: pid 8 serves in place of pid 7, after 25ms", o.String())
	o.Result = Running
	require.Equal(t, "upgrade 3 runs (phase start)", o.String())
}
