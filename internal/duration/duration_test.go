package duration

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30d": 720 * time.Hour, "12h": 12 * time.Hour, "1w": 168 * time.Hour, "1m30s": 90 * time.Second,
		"1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond, "0": 0,
		"-1h":  -time.Hour,
		" 5s ": 5 * time.Second, "720h0m0s": 720 * time.Hour, "2d05h": 53 * time.Hour,
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "10", "soon", "30 d", "1y", "3month", "1e3s", "9999999w", "d", "1,5h"} {
		_, err := Parse(text)
		assert.ErrorContains(t, err, "is not a duration: write numbers with units, such as 30d, 12h or 1m30s",
			text)
	}
}

func TestFormat(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"30d": 720 * time.Hour, "12h": 12 * time.Hour, "1m30s": 90 * time.Second, "0s": 0,
		"10s": 10 * time.Second,
		"10m": 10 * time.Minute, "1d1h": 25 * time.Hour, "1h0m1s": time.Hour + time.Second, "-1h": -time.Hour,
		"1.5s": 1500 * time.Millisecond, "-1d1h": -25 * time.Hour, "20m": 20 * time.Minute,
	} {
		assert.Equal(t, want, Format(d))
	}
}

// TestRoundTrip checks that every duration is read as it was written.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(-1<<62, 1<<62).Draw(t, "d")).Truncate(time.Millisecond)
		got, err := Parse(Format(d))
		if err != nil || got != d {
			t.Fatalf("%v was written as %s and read as %v: %v", d, Format(d), got, err)
		}
	})
}

func TestFlag(t *testing.T) {
	var d time.Duration
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	Flag(flags, &d, "retention", 720*time.Hour, "how long")
	assert.Contains(t, flags.FlagUsages(), "--retention duration   how long (default 30d)")
	require.NoError(t, flags.Parse([]string{"--retention", "2d"}))
	assert.Equal(t, 48*time.Hour, d)
	assert.ErrorContains(t, flags.Parse([]string{"--retention", "2"}), `"2" is not a duration`)
}
