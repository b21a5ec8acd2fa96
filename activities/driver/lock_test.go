package driver

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	locks := LockDir(t.TempDir() + "/locks")
	unlock, err := locks.Lock(t.Context(), "a")
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = locks.Lock(short, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	second := make(chan error, 1)
	go func() {
		unlock, err := locks.Lock(t.Context(), "a")
		if err == nil {
			unlock()
		}
		second <- err
	}()
	unlock()
	require.NoError(t, <-second)

	link := t.TempDir() + "/link"
	require.NoError(t, os.Symlink(string(locks), link))
	_, err = LockDir(link).Lock(t.Context(), "a")
	require.ErrorContains(t, err, "only this user")
}
