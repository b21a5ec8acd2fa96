package api

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"hutong/bfia"
)

// Submissions wait for each other. One that waits too long is refused, to be repeated later.
func TestSubmissionsWait(t *testing.T) {
	s := &Server{Config: Config{Node: "A"}, submissions: semaphore.NewWeighted(1)}
	done, err := s.admit(t.Context())
	require.NoError(t, err)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.admit(impatient)
	require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err))
	require.ErrorContains(t, err, "submit the job again later")

	next := make(chan error)
	go func() {
		done, err := s.admit(t.Context())
		if err == nil {
			done()
		}
		next <- err
	}()
	done()
	require.NoError(t, <-next)
}
