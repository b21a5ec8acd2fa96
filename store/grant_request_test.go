package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestGrantRequests checks the states of a request at both sides, on both databases.
func TestGrantRequests(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
		request := store.GrantRequest{Partner: "B", AuditID: "r1", Dataset: "bank#train",
			Components: []string{"LR"}, Until: &until, Times: 2, CreatedBy: "B"}
		require.NoError(t, s.AddGrantRequest(ctx, request))
		require.NoError(t, s.AddGrantRequest(ctx, request), "the same again")
		other := request
		other.Times = 3
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.AddGrantRequest(ctx, other)))
		sent := request
		sent.Sent = true // the partner may have chosen the same id
		require.NoError(t, s.AddGrantRequest(ctx, sent))
		all, err := s.GrantRequests(ctx)
		require.NoError(t, err)
		require.Len(t, all, 2)

		// The giver.
		r, err := s.GrantRequest(ctx, "B", "r1", false)
		require.NoError(t, err)
		require.Equal(t, bfia.RequestApplied, r.State)
		require.Equal(t, until, *r.Until)
		r.DecidedBy, r.Times, r.Until = "ann", 5, nil
		grant := bfia.DataGrant{ID: "g1", Partner: "B", Component: "LR", Dataset: "bank#train", Times: 2,
			AuditID: "r1", PermitHash: store.HashSecret("t1")}
		require.NoError(t, s.ApproveGrantRequest(ctx, r, []bfia.DataGrant{grant}))
		require.NoError(t, s.AddGrantRequest(ctx, request), "the same again, after the decision")
		claim := store.GrantClaim{Node: "A", Partner: "B", RequirePermits: true, Needs: []bfia.GrantNeed{
			{Task: "t", Provider: "p", Version: "1", Component: "LR", Dataset: "bank#train"}}}
		require.ErrorContains(t, s.CheckGrants(ctx, "j1", claim), "requires its permit")
		present := func(token string) store.GrantClaim {
			claim.Permits = []bfia.Permit{{Resource: "A:DATASET:bank#train", Level: bfia.PermitLevel,
				Token: token}}
			return claim
		}
		require.NoError(t, s.CheckGrants(ctx, "j1", present("t1")))
		foreign := present("t1")
		foreign.Partner = "C"
		require.ErrorContains(t, s.CheckGrants(ctx, "j1", foreign), "is not one that A has given to C")
		require.ErrorContains(t, s.CheckGrants(ctx, "j1", present("t2")), "is not one that")

		require.NoError(t, s.RenewPermit(ctx, r, store.HashSecret("t2")))
		require.NoError(t, s.SetPermitDelivered(ctx, r, store.HashSecret("t1")), "an earlier permit")
		now, err := s.GrantRequest(ctx, "B", "r1", false)
		require.NoError(t, err)
		require.False(t, now.Delivered)
		require.Equal(t, 5, now.Times, "as decided")
		require.Nil(t, now.Until)
		require.NoError(t, s.SetPermitDelivered(ctx, r, store.HashSecret("t2")))
		now, err = s.GrantRequest(ctx, "B", "r1", false)
		require.NoError(t, err)
		require.True(t, now.Delivered)
		require.NoError(t, s.CheckGrants(ctx, "j1", present("t2")))

		found, err := s.RequestOfGrant(ctx, "g1")
		require.NoError(t, err)
		require.Equal(t, "r1", found.AuditID)
		changed, err := s.EndGrantRequest(ctx, now, bfia.RequestTerminated, bfia.RequestApproved)
		require.NoError(t, err)
		require.True(t, changed)
		ended, err := s.GrantRequest(ctx, "B", "r1", false)
		require.NoError(t, err)
		changed, err = s.EndGrantRequest(ctx, ended, bfia.RequestTerminated, bfia.RequestApproved)
		require.NoError(t, err)
		require.False(t, changed)
		require.ErrorContains(t, s.CheckGrants(ctx, "j1", present("t2")), "was revoked")
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.ApproveGrantRequest(ctx, ended,
			[]bfia.DataGrant{{ID: "g2", Partner: "B"}})))
		grants, err := s.Grants(ctx, "B")
		require.NoError(t, err)
		require.Len(t, grants, 1, "a refused approval grants nothing")

		// The asker.
		r, err = s.GrantRequest(ctx, "B", "r1", true)
		require.NoError(t, err)
		require.Equal(t, bfia.RequestApplied, r.State, "the other direction is another request")
		held := map[string]bool{"B/bank#train": true, "C/bank#train": true}
		permits := func(datasets map[string]bool) []bfia.Permit {
			t.Helper()
			permits, err := s.Permits(ctx, datasets)
			require.NoError(t, err)
			return permits
		}
		require.Empty(t, permits(held))
		permit := bfia.Permit{Resource: "B:DATASET:bank#train", Level: 1, Token: "t"}
		require.NoError(t, s.ReceivePermit(ctx, r, permit, nil, 0))
		require.Equal(t, []bfia.Permit{permit}, permits(held))
		require.Empty(t, permits(map[string]bool{"B/bank#test": true}), "of another dataset")
		past := time.Now().Add(-time.Minute)
		require.NoError(t, s.ReceivePermit(ctx, r, permit, &past, 0))
		require.Empty(t, permits(held), "it has ended")
		require.NoError(t, s.ReceivePermit(ctx, r, permit, nil, 0))
		_, err = s.EndGrantRequest(ctx, r, bfia.RequestTerminated, bfia.RequestApproved)
		require.NoError(t, err)
		require.Empty(t, permits(held))
		require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.ReceivePermit(ctx, r, permit, nil, 0)))

		// Permits of a job.
		require.NoError(t, s.PutJobPermits(ctx, "j1", []bfia.Permit{permit}))
		require.NoError(t, s.PutJobPermits(ctx, "j1", []bfia.Permit{permit, {Resource: "C:D:x", Token: "u"}}))
		kept, err := s.JobPermits(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, kept, 2)
		n, err := s.RemoveUnusedJobPermits(ctx, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, s.DeleteJobPermits(ctx, "j1"))
		kept, err = s.JobPermits(ctx, "j1")
		require.NoError(t, err)
		require.Empty(t, kept)
	})
}
