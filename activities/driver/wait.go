package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// MinReconnectDelay is the first delay before a driver reconnects to Docker Engine or to an API server.
	// It doubles up to MaxReconnectDelay.
	MinReconnectDelay = 100 * time.Millisecond
	MaxReconnectDelay = 5 * time.Second

	// PollRunning is the polling interval of a running container. It is the safety net below events.
	PollRunning = time.Minute
)

// NextReconnectDelay returns the delay after another one: exponential backoff from MinReconnectDelay to
// MaxReconnectDelay.
func NextReconnectDelay(delay time.Duration) time.Duration {
	return min(max(2*delay, MinReconnectDelay), MaxReconnectDelay)
}

// Sleep waits for a duration, or returns an error when the context ends.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", ctx.Err())
	}
}

// ShouldReconnect reports whether a wait survives err by connecting again: the context has not ended, and the
// container may still exist.
func ShouldReconnect(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, ErrNotFound) && !IsNonRetryable(err)
}
