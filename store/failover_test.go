package store_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv/relay"
)

// openThrough opens a store through a relay, with several pooled sessions.
func openThrough(t *testing.T, r *relay.Relay) *store.Store {
	t.Helper()
	s := storetest.Open(t, "postgres://postgres@"+r.Address()+"/postgres?sslmode=disable")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _, _ = s.Runners(t.Context(), time.Minute) })
	}
	all.Wait()
	_, err := s.DeploymentID(t.Context())
	require.NoError(t, err)
	return s
}

// requireUnavailable checks that a request fails in a way that clients retry.
func requireUnavailable(t *testing.T, err error) {
	t.Helper()
	var known *bfia.Error
	require.True(t, errors.As(err, &known), "%v", err)
	require.Equal(t, http.StatusServiceUnavailable, known.Code.HTTPStatus(), "%v", err)
}

// requireRecovered checks that a store works again within a few requests, each of which either succeeds or
// asks the client to retry, and then keeps working.
func requireRecovered(t *testing.T, s *store.Store) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := s.DeploymentID(t.Context())
		if err == nil {
			break
		}
		requireUnavailable(t, err)
		require.True(t, time.Now().Before(deadline), "%v", err)
		time.Sleep(20 * time.Millisecond)
	}
	var all sync.WaitGroup
	failures := make(chan error, 64)
	for range 32 {
		all.Go(func() {
			if _, err := s.DeploymentID(t.Context()); err != nil {
				failures <- err
			}
			if _, err := s.Runners(t.Context(), time.Minute); err != nil {
				failures <- err
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Errorf("a session to the old server was used after the fail-over: %v", err)
	}
}

// TestReadOnlySessionsAreDropped makes a server read-only while sessions are open, and writable again.
func TestReadOnlySessionsAreDropped(t *testing.T) {
	t.Parallel()
	server := storetest.StartServer(t, nil)
	s := openThrough(t, relay.New(t, "127.0.0.1", "unix", server.Socket()))
	server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
	server.Exec(t, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		_, err := s.DeploymentID(t.Context())
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	_, err := s.DeploymentID(t.Context())
	requireUnavailable(t, err)
	require.Equal(t, "the database accepts no writes now", bfia.MessageOf(err))

	server.Exec(t, "ALTER SYSTEM RESET default_transaction_read_only")
	server.Exec(t, "SELECT pg_reload_conf()")
	requireRecovered(t, s)
}

// TestFailOver moves the role of the primary to a standby behind the same address. The sessions to the former
// primary stay open and become read-only, as with managed databases.
func TestFailOver(t *testing.T) {
	t.Parallel()
	primary := storetest.StartServer(t, nil)
	r := relay.New(t, "127.0.0.1", "unix", primary.Socket())
	s := openThrough(t, r)
	id, err := s.DeploymentID(t.Context())
	require.NoError(t, err)
	standby := storetest.StartServer(t, primary)

	primary.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
	primary.Exec(t, "SELECT pg_reload_conf()")
	r.Lead("unix", standby.Socket())
	require.Eventually(t, func() bool {
		_, err := s.DeploymentID(t.Context())
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	_, err = s.DeploymentID(t.Context())
	requireUnavailable(t, err) // the standby is not promoted yet

	standby.Exec(t, "SELECT pg_promote()")
	requireRecovered(t, s)
	after, err := s.DeploymentID(t.Context())
	require.NoError(t, err)
	require.Equal(t, id, after)
}

// TestStaleSessionsAreChecked reads, without a write that could fail, while the sessions of the pool lead to
// a former primary.
func TestStaleSessionsAreChecked(t *testing.T) {
	t.Parallel()
	server := storetest.StartServer(t, nil)
	s := openThrough(t, relay.New(t, "127.0.0.1", "unix", server.Socket()))
	server.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on")
	server.Exec(t, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool {
		_, err := s.Runners(t.Context(), time.Minute)
		if err != nil {
			requireUnavailable(t, err)
		}
		return err != nil
	}, time.Minute, 50*time.Millisecond, "a former primary is read from for ever")
}

// TestPrimaryCrashes kills the primary and promotes its standby behind the same address.
func TestPrimaryCrashes(t *testing.T) {
	t.Parallel()
	primary := storetest.StartServer(t, nil)
	r := relay.New(t, "127.0.0.1", "unix", primary.Socket())
	s := openThrough(t, r)
	standby := storetest.StartServer(t, primary)

	primary.Kill(t)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := s.DeploymentID(ctx)
		return err != nil
	}, time.Minute, 10*time.Millisecond)
	_, err := s.DeploymentID(t.Context())
	requireUnavailable(t, err)
	r.Lead("unix", standby.Socket())
	standby.Exec(t, "SELECT pg_promote()")
	requireRecovered(t, s)
}
