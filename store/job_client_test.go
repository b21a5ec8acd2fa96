package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// TestOpenJobsOfOneClient has a client submit more jobs at once than it may have open. Exactly as many as it
// may are accepted, with one entry of the audit trail each. After one has ended, another is accepted.
func TestOpenJobsOfOneClient(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		const limit = 3
		submitAt := func(name, credential, jobID string, at time.Time) (bool, error) {
			p := identity.Principal{Kind: identity.KindClient, Name: name, Credential: credential}
			pending := audit.NewPending(p, audit.Submit, func() string { return "" })
			return s.Submit(audit.With(ctx, pending), store.JobClient{JobID: jobID, Name: name,
				Credential: credential, Proof: "token", CreatedAt: at}, limit)
		}
		submit := func(name, credential, jobID string) (bool, error) {
			return submitAt(name, credential, jobID, time.Now())
		}

		var accepted, refused atomic.Int64
		var jobs sync.Map
		var all sync.WaitGroup
		for i := range 16 {
			all.Go(func() {
				id := fmt.Sprint("j", i)
				added, err := submit("alice", fmt.Sprint("token ", i%2), id)
				switch {
				case err == nil:
					assert.True(t, added)
					accepted.Add(1)
					jobs.Store(id, fmt.Sprint("token ", i%2))
				case assert.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err), "%v", err):
					assert.Equal(t, "client alice has 3 open jobs, and may have 3", bfia.MessageOf(err))
					refused.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, limit, accepted.Load())
		require.EqualValues(t, 16-limit, refused.Load())
		entries, err := s.AuditEntries(ctx, store.AuditFilter{Act: audit.Submit})
		require.NoError(t, err)
		require.Len(t, entries, limit, "what was refused has no entry that it was allowed")

		var first, credential string
		jobs.Range(func(id, c any) bool { first, credential = id.(string), c.(string); return false })
		added, err := submit("alice", credential, first)
		require.NoError(t, err, "a repeated submission is no further job")
		require.False(t, added)
		_, err = submit("bob", "token b", "b1")
		require.NoError(t, err, "another client has a limit of its own")

		// After the end of a job, another is accepted.
		job, tasks := partyJob(first)
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		_, err = submit("alice", "token", "next")
		require.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err))
		require.NoError(t, s.UpdateJob(ctx, first, bfia.JobRejected, "", time.Now()))
		_, err = submit("alice", "token", "next")
		require.NoError(t, err)
		_, err = submit("alice", "token", "another")
		require.Equal(t, bfia.CodeTooMany, bfia.CodeOf(err))

		// A submission that created no job stops to count.
		for i := range 2 * limit {
			_, err := submitAt("carol", "token c", fmt.Sprint("lost", i), time.Now().Add(-10*time.Minute))
			require.NoError(t, err)
		}
	})
}
