package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// TestIDsOfBefore checks that no recorded creation can be sent again after its job is removed or lost in a
// restore, and that a new id is accepted at once, in the same second too.
func TestIDsOfBefore(t *testing.T) {
	const retention = 24 * time.Hour
	p := newParty(t, func(c *Config) { c.Retention = retention }).withProvider().withData()
	old := bfia.NewJobID(time.Now(), 0)
	kept := time.Now().UTC().Add(-retention-jobIDWindow).Format("20060102150405") + "0000000"
	p.bad(post(bfia.PathCreate, withHost(t, kept)).from(guest), 200, bfia.CodeConflict,
		"job_id: "+kept, "keeps jobs for 24h0m0s only")

	removed := bfia.NewJobID(time.Now(), 1)
	require.NoError(t, p.store.PutProjectJobRecord(t.Context(), removed, []byte("{}"), store.NewRegistry(nil),
		identity.DefaultProject))
	require.NoError(t, p.store.RemoveJob(t.Context(), removed))
	p.bad(post(bfia.PathCreate, withHost(t, removed)).from(guest), 200, bfia.CodeConflict,
		"job_id: ", "removed the job "+removed)

	at := time.Now()
	entry := audit.New(identity.Principal{Kind: identity.KindPartner, Node: guest}, audit.FinishRestore,
		audit.Object{}, audit.Allowed, at)
	require.NoError(t, p.store.FinishRestore(t.Context(), 10, at, &entry))
	p.bad(post(bfia.PathCreate, withHost(t, old)).from(guest), 200, bfia.CodeConflict,
		"job_id: "+old, "restored from a backup")
	p.good(post(bfia.PathCreate, withHost(t, bfia.NewJobID(time.Now(), 0))).from(guest))
}
