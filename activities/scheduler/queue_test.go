package scheduler

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPollBehind(t *testing.T) {
	for length, want := range map[int]time.Duration{
		0: 0, 10: 2 * time.Second, 100: 20 * time.Second, 1000: 200 * time.Second, 10_000: 10 * time.Minute,
	} {
		require.Equal(t, want, pollBehind(length), "%d jobs", length)
	}
}
