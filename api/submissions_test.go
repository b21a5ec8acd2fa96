package api

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestSubmissionsWait checks that submissions wait for each other. One that waits too long is refused, to be
// repeated later.
func TestSubmissionsWait(t *testing.T) {
	s := newSubmissions(1)
	done, err := s.enter(t.Context(), "A", "alice", false)
	require.NoError(t, err)
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.enter(impatient, "A", "alice", false)
	require.Equal(t, bfia.CodeUnavailable, bfia.CodeOf(err))
	require.ErrorContains(t, err, "submit the job again later")

	next := make(chan error)
	go func() {
		done, err := s.enter(t.Context(), "A", "alice", false)
		if err == nil {
			done()
		}
		next <- err
	}()
	done()
	require.NoError(t, <-next)
}

// TestSubmissionsAreRefused checks that a submission that would wait behind too many others is refused at
// once, with the time that they take, and one that waits is not. When the others have left, the next one is
// taken.
func TestSubmissionsAreRefused(t *testing.T) {
	s := newSubmissions(2)
	s.takes = 3 * time.Second
	var leave []func()
	for range 2 {
		done, err := s.enter(t.Context(), "A", "alice", false)
		require.NoError(t, err)
		leave = append(leave, done)
	}
	entered := make(chan func())
	wait := func(waits bool) {
		done, err := s.enter(t.Context(), "A", "alice", waits)
		if err == nil {
			entered <- done
		}
	}
	waiting := func(n int) func() bool {
		return func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.waiting == n
		}
	}
	for range 2 {
		go wait(false)
	}
	require.Eventually(t, waiting(2), time.Minute, time.Millisecond)

	_, err := s.enter(t.Context(), "A", "alice", false)
	require.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err))
	require.Equal(t, "A creates as many jobs as it can, and 2 more wait; try again in 5s",
		bfia.MessageOf(err))
	go wait(true)
	require.Eventually(t, waiting(3), time.Minute, time.Millisecond)

	for _, done := range leave {
		done()
	}
	for range 3 {
		leaveNext(t, entered)
	}
	require.Less(t, s.takes, 3*time.Second, "it learns how long a creation takes")
	done, err := s.enter(t.Context(), "A", "alice", false)
	require.NoError(t, err)
	done()
}

// TestFastSubmissionsWait checks that more submissions wait if creations are fast.
func TestFastSubmissionsWait(t *testing.T) {
	s := newSubmissions(2)
	s.takes = 20 * time.Millisecond
	for range 2 {
		_, err := s.enter(t.Context(), "A", "alice", false)
		require.NoError(t, err)
	}
	for s.waiting = 0; ; s.waiting++ {
		s.open["alice"] = s.atMax + s.waiting
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.enter(ended, "A", "alice", false); bfia.CodeOf(err) == bfia.CodeTooMany {
			break
		}
	}
	require.InDelta(t, 77, s.waiting, 2, "780 ms of waiting, at 10 ms each")
}

// TestFloodOfSubmissions has a client submit without end, in both ways, and checks that another client's
// submissions are taken: behind those that were there, but not behind those that the first one adds.
func TestFloodOfSubmissions(t *testing.T) {
	s := newSubmissions(2)
	s.takes = time.Second // slow, so that too many wait soon
	entered := make(chan func(), 100)
	enter := func(client string, waits bool) {
		if done, err := s.enter(t.Context(), "A", client, waits); err == nil {
			entered <- done
		}
	}
	open := func(client string) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.open[client]
	}
	for n := range 4 {
		go enter("mallory", false)
		require.Eventually(t, func() bool { return open("mallory") == n+1 }, time.Minute, time.Millisecond)
	}
	for range 100 {
		_, err := s.enter(t.Context(), "A", "mallory", false)
		require.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err))
	}
	for n := range 2 { // half of the four places
		go enter("alice", false)
		require.Eventually(t, func() bool { return open("alice") == n+1 }, time.Minute, time.Millisecond)
	}

	for n := range 2*waitsEach - 4 { // as FATE's clients, of which each request waits
		go enter("mallory", true)
		require.Eventually(t, func() bool { return open("mallory") == n+5 }, time.Minute, time.Millisecond)
	}
	_, err := s.enter(t.Context(), "A", "mallory", true)
	require.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err))
	go enter("bob", false)
	require.Eventually(t, func() bool { return open("bob") == 1 }, time.Minute, time.Millisecond)

	for range 2*waitsEach + 3 {
		leaveNext(t, entered)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Empty(t, s.open)
	require.Zero(t, s.waiting)
}

// leaveNext ends the next creation that has begun.
func leaveNext(t *testing.T, entered <-chan func()) {
	t.Helper()
	select {
	case done := <-entered:
		done()
	case <-time.After(30 * time.Second):
		require.Fail(t, "a submission that waits is not taken")
	}
}
