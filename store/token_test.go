package store_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

func TestTokenRows(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		other := storetest.Open(t, address) // another process
		hash := sha256.Sum256([]byte("secret"))
		expires := time.Now().Add(time.Hour)
		row := store.Token{TokenID: "t-1", Hash: hash[:], Name: "alice", Roles: []string{"viewer", "logs"},
			CreatedBy: "root", ExpiresAt: &expires}
		require.NoError(t, s.CreateToken(ctx, row))
		requireCode(t, bfia.CodeConflict, s.CreateToken(ctx, row))
		requireCode(t, bfia.CodeConflict, s.CreateToken(ctx, store.Token{TokenID: "t-2", Hash: hash[:]}))

		kept, found, err := other.TokenByHash(ctx, hash[:])
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, row.Roles, kept.Roles)
		require.WithinDuration(t, expires, *kept.ExpiresAt, time.Microsecond)
		_, found, err = s.TokenByHash(ctx, make([]byte, 32))
		require.NoError(t, err)
		require.False(t, found)

		appHash := sha256.Sum256([]byte("app's secret"))
		app := store.Token{TokenID: "t-4", Hash: appHash[:], App: true, Name: "flow", Roles: []string{"data"}}
		require.NoError(t, s.CreateToken(ctx, app))
		byID, found, err := other.TokenByID(ctx, "t-4")
		require.NoError(t, err)
		require.True(t, found)
		require.True(t, byID.App)
		require.Equal(t, app.Roles, byID.Roles)
		require.False(t, kept.App)
		_, found, err = s.TokenByID(ctx, "t-none")
		require.NoError(t, err)
		require.False(t, found)

		day := time.Date(2026, 3, 1, 23, 59, 0, 0, time.UTC)
		require.NoError(t, s.UseToken(ctx, kept, day))
		require.NoError(t, s.UseToken(ctx, kept, day.Add(-24*time.Hour)), "an earlier day changes nothing")
		require.NoError(t, s.RevokeToken(ctx, "t-1", day))
		require.NoError(t, s.RevokeToken(ctx, "t-1", day.Add(time.Hour)))
		requireCode(t, bfia.CodeNotFound, s.RevokeToken(ctx, "t-3", day))

		kept, found, err = other.TokenByHash(ctx, hash[:])
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, day, *kept.RevokedAt, "revoked at once, and for ever")
		require.Equal(t, "2026-03-01", kept.LastUsedOn)
		list, err := other.Tokens(ctx)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Empty(t, list[0].Hash)
	})
}

// The clients of a job are kept as long as the job, and those of a job that was never created are removed.
func TestJobClients(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx, s := t.Context(), storetest.Open(t, address)
		alice := store.JobClient{JobID: "j1", Act: store.ActSubmitted, Name: "alice", Credential: "t-1",
			Proof: "token"}
		bob := store.JobClient{JobID: "j1", Act: "READY", Name: "bob", Credential: "t-2", Proof: "token"}
		add := func(c store.JobClient) bool {
			added, err := s.AddJobClient(ctx, c)
			require.NoError(t, err)
			return added
		}
		require.True(t, add(alice))
		require.False(t, add(alice))
		require.True(t, add(bob))
		clients, err := s.JobClients(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, clients, 2)
		require.Equal(t, "alice", clients[0].Name)
		require.NoError(t, s.DeleteJobClient(ctx, bob))

		job, tasks := partyJob("j1")
		require.NoError(t, s.CreateJob(ctx, job, tasks))
		lost := alice
		lost.JobID = "never"
		require.True(t, add(lost))
		n, err := s.RemoveUnusedJobClients(ctx, time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = s.RemoveUnusedJobClients(ctx, time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, 1, n)

		clients, err = s.JobClients(ctx, "j1")
		require.NoError(t, err)
		require.Len(t, clients, 1)
		require.NoError(t, s.RemoveJob(ctx, "j1"))
		clients, err = s.JobClients(ctx, "j1")
		require.NoError(t, err)
		require.Empty(t, clients)
	})
}
