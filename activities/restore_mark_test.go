package activities_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/housekeeping"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// TestRestoreMark checks that the mark of the storage and the database is counted up together, twice without
// harm, and not over that of a restored one.
func TestRestoreMark(t *testing.T) {
	storetest.Each(t, func(t *testing.T, address string) {
		ctx := t.Context()
		db := storetest.Open(t, address)
		blobs, err := blob.Open(ctx, "file://"+t.TempDir())
		require.NoError(t, err)
		deployment, err := db.DeploymentID(ctx)
		require.NoError(t, err)
		a := &housekeeping.Activities{Node: "A", Store: db, Blobs: blobs, Logger: quiet}
		advance := func(number int64) error {
			return a.AdvanceRestoreMark(ctx, housekeeping.AdvanceRestoreMarkInput{Number: number})
		}
		requireMarks := func(number int64) {
			t.Helper()
			m, err := db.RestoreMark(ctx)
			require.NoError(t, err)
			stored, err := housekeeping.ReadStorageMark(ctx, blobs, deployment)
			require.NoError(t, err)
			require.Equal(t, []int64{number, number}, []int64{m.Number, stored.Number})
		}
		for _, number := range []int64{1, 1, 2, 3, 3} {
			require.NoError(t, advance(number))
			requireMarks(number)
		}
		objects, err := blobs.List(ctx, "_restore")
		require.NoError(t, err)
		require.Len(t, objects, 1, "earlier marks are removed")

		// A process dies between the storage and the database.
		require.NoError(t, housekeeping.WriteStorageMark(ctx, blobs, deployment, 4))
		require.NoError(t, advance(4))
		requireMarks(4)

		const problem = "was restored from a backup while the party runs"
		require.ErrorContains(t, advance(6), problem, "the database")
		require.ErrorContains(t, advance(2), problem, "Temporal")
		requireMarks(4)
		require.NoError(t, blobs.DeletePrefix(ctx, "_restore"))
		require.ErrorContains(t, advance(5), "4 in the database and 0 in the storage")
	})
}
