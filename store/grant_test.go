package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestGrants checks that jobs are counted once each and in the transaction that stores them.
func TestGrants(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		limited, err := s.AddGrant(ctx, bfia.DataGrant{Partner: "B", Component: "LR", Dataset: "bank#*",
			Until: &until, Times: 2, CreatedBy: "ann"})
		require.NoError(t, err)
		_, err = s.AddGrant(ctx, bfia.DataGrant{Partner: "C", Component: "*", Dataset: "*"})
		require.NoError(t, err)
		claim := store.GrantClaim{Node: "A", Partner: "B", Needs: []bfia.GrantNeed{
			{Task: "t", Provider: "p", Version: "1", Component: "LR", Dataset: "bank#train"},
			{Task: "u", Provider: "p", Version: "1", Component: "LR", Dataset: "bank#test"}}}
		put := func(job string) error {
			return s.PutGrantedJobRecord(ctx, job, []byte(job), store.NewRegistry(nil), claim)
		}
		used := func() int {
			grants, err := s.Grants(ctx, "B")
			require.NoError(t, err)
			require.Len(t, grants, 1)
			return grants[0].Used
		}

		require.NoError(t, s.CheckGrants(ctx, "j1", claim))
		require.Zero(t, used(), "a check counts nothing")
		require.NoError(t, put("j1"))
		require.NoError(t, put("j1"))
		require.Equal(t, 1, used(), "a repeated request is one job")
		err = s.PutGrantedJobRecord(ctx, "j1", []byte("other"), store.NewRegistry(nil), claim)
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))

		// A job that is refused for another reason in the same transaction is not counted.
		require.NoError(t, s.PutJobRecord(ctx, "j0", []byte("j0"), store.NewRegistry(nil)))
		err = s.PutGrantedJobRecord(ctx, "j0", []byte("other"), store.NewRegistry(nil), claim)
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(err))
		require.Equal(t, 1, used())

		// Of concurrent jobs, exactly one takes the last use.
		var racing sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			racing.Go(func() { errs[i] = put(fmt.Sprint("race", i)) })
		}
		racing.Wait()
		accepted := ""
		for i, err := range errs {
			job := fmt.Sprint("race", i)
			_, stored := s.JobRecord(ctx, job)
			if err == nil {
				require.Empty(t, accepted, "two jobs took the last use")
				accepted = job
				continue
			}
			require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, "was for 2 jobs, which have run")
			require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(stored), "a refused job is stored")
		}
		require.NotEmpty(t, accepted)
		require.Equal(t, 2, used())
		require.NoError(t, s.CheckGrants(ctx, "j1", claim), "j1 is counted already")
		require.Error(t, s.CheckGrants(ctx, "j9", claim))

		require.NoError(t, s.ReturnGrants(ctx, accepted))
		require.NoError(t, put("j9"))

		// The removal of a job gives nothing back.
		require.NoError(t, s.DeleteJob(ctx, "j9"))
		require.Equal(t, 2, used())

		require.NoError(t, s.RevokeGrant(ctx, limited.ID))
		grants, err := s.Grants(ctx, "B")
		require.NoError(t, err)
		require.NotNil(t, grants[0].RevokedAt)
		require.Equal(t, until, *grants[0].Until)
		require.Equal(t, "ann", grants[0].CreatedBy)
		first := *grants[0].RevokedAt
		require.NoError(t, s.RevokeGrant(ctx, limited.ID))
		grants, err = s.Grants(ctx, "B")
		require.NoError(t, err)
		require.Equal(t, first, *grants[0].RevokedAt)
		require.ErrorContains(t, s.CheckGrants(ctx, "j1", claim), "was revoked")
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(s.RevokeGrant(ctx, "none")))
		all, err := s.Grants(ctx, "")
		require.NoError(t, err)
		require.Len(t, all, 2)
	})
}
