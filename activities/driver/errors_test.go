package driver

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := NonRetryablef("bad: %w", ErrNotFound)
	err := fmt.Errorf("outer: %w", WrapError("start", "x", cause))
	require.True(t, IsNonRetryable(err))
	require.ErrorIs(t, err, ErrNotFound)
	require.EqualError(t, err, "outer: failed to start container x: bad: no such container")
	require.False(t, IsNonRetryable(WrapError("start", "x", errors.New("busy"))))
	require.NoError(t, WrapError("start", "x", nil))
}
