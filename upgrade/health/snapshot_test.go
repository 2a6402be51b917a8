package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEncode(t *testing.T) {
	w := NewWindow(0)
	w.Observe(200, 5*time.Millisecond, false)
	a, b := w.Snapshot(time.Second), Snapshot{Over: 10 * time.Second, CPU: CPUUnknown}
	a.At = a.At.Round(0)
	bytes, err := Encode(a, b)
	require.NoError(t, err)
	got, err := Decode(bytes)
	require.NoError(t, err)
	require.Len(t, got, 2)
	assert.True(t, a.At.Equal(got[0].At))
	got[0].At = a.At
	assert.Equal(t, []Snapshot{a, b}, got)

	bytes, err = Encode(make([]Snapshot, maxSnapshots)...)
	require.NoError(t, err)
	_, err = Decode(bytes)
	require.NoError(t, err)
	_, err = Encode(make([]Snapshot, maxSnapshots+1)...)
	assert.ErrorContains(t, err, "at most 64")
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:        "unexpected end",
		`{"v":2}`: "version 2: this process knows 1",
		`{"v":1,"snapshots":[{"requests":1,"successes":2}]}`: "number 1: more successes than requests",
		`{"v":1,"snapshots":[{},{"p50_ns":2,"p95_ns":1}]}`:   "number 2: its latencies do not ascend",
		`{"v":1,"snapshots":[{"over_ns":-1}]}`:               "it covers -1ns",
		`{"v":1,"snapshots":[{"goroutines":-1}]}`:            "fewer goroutines",
		string(make([]byte, maxEncoded+1)):                   "65537 bytes",
	} {
		_, err := Decode([]byte(text))
		assert.ErrorContains(t, err, want)
	}
	// Of a later version that has more to say.
	got, err := Decode([]byte(`{"v":1,"snapshots":[{"requests":1,"p999_ns":3}],"more":true}`))
	require.NoError(t, err)
	assert.Len(t, got, 1)
}

func TestForSpan(t *testing.T) {
	ss := []Snapshot{{Over: time.Second}, {Over: 10 * time.Second}, {Over: 30 * time.Second}}
	for over, want := range map[time.Duration]time.Duration{time.Second: time.Second, 20 * time.Second: 10 * time.Second, time.Hour: 30 * time.Second} {
		s, ok := ForSpan(ss, over)
		assert.True(t, ok)
		assert.Equal(t, want, s.Over)
	}
	_, ok := ForSpan(ss, time.Millisecond)
	assert.False(t, ok)
}

func FuzzDecode(f *testing.F) {
	b, _ := Encode(Snapshot{Over: time.Second, Requests: 3, Successes: 2, P50: 1, P95: 2, P99: 3, CPU: 0.5})
	f.Add(b)
	f.Add([]byte(`{"v":1,"snapshots":[null]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		ss, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(ss...)
		if err != nil {
			t.Skip(err) // a year that RFC 3339 has not
		}
		back, err := Decode(again)
		if err != nil || len(back) != len(ss) {
			t.Fatalf("%s gives %s: %v", b, again, err)
		}
		rules, _ := ParseRules("success >= 99%", "p95 <= 2x old", "cpu <= 2x old", "memory <= 1GiB")
		for i := range ss {
			for _, r := range rules {
				if r.Judge(ss[i], &ss[i]).Reason == "" {
					t.Fatal("no reason")
				}
			}
		}
	})
}
