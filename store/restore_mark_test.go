package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// The mark is counted up one by one: a service that was restored has another number.
func TestRestoreMark(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		s := storetest.Open(t, address)
		m, err := s.RestoreMark(ctx)
		require.NoError(t, err)
		require.Equal(t, store.RestoreMark{}, m)

		for _, number := range []int64{1, 1, 2} {
			require.NoError(t, s.AdvanceRestoreMark(ctx, number))
		}
		for _, number := range []int64{1, 4} {
			require.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.AdvanceRestoreMark(ctx, number)), "%d", number)
		}
		m, err = s.RestoreMark(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(2), m.Number)
		require.WithinDuration(t, time.Now(), m.MarkedAt, time.Minute)
		require.Nil(t, m.RestoredAt)

		at := time.Now().UTC().Truncate(time.Microsecond)
		entry := audit.New(identity.Principal{Kind: identity.KindPartner, Node: "A"}, audit.FinishRestore,
			audit.Object{}, audit.Allowed, at)
		require.NoError(t, s.FinishRestore(ctx, 12, at, &entry))
		m, err = s.RestoreMark(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(12), m.Number)
		require.Equal(t, &at, m.RestoredAt)
		require.NoError(t, s.AdvanceRestoreMark(ctx, 13))
		m, err = s.RestoreMark(ctx)
		require.NoError(t, err)
		require.Equal(t, &at, m.RestoredAt, "counting keeps the time of the restore")
		entries, err := s.AuditEntries(ctx, store.AuditFilter{Act: audit.FinishRestore})
		require.NoError(t, err)
		require.Len(t, entries, 1)
	})
}
