package handoff

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSelfTest(t *testing.T) {
	for range 100 {
		require.NoError(t, selfTest(expectedSteps), "this toolchain reads as the boundary rule expects")
	}
	other := append([]string{}, expectedSteps...)
	other[2] = "idle, 2 deadlines: read 4096"
	require.ErrorContains(t, selfTest(other), "not known", "another toolchain is noticed")
}

func BenchmarkSelfTest(b *testing.B) {
	for b.Loop() {
		if err := selfTest(expectedSteps); err != nil {
			b.Fatal(err)
		}
	}
}
