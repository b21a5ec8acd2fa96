package store_test

import (
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// TestRemovalOfAProjectDuringUploads removes a project while two uploads and an import to it are under way,
// which a quota of storage bounds. None waits for one that waits for it: PostgreSQL would end such a deadlock
// after a second only, with an error. The test holds the uploads between their locks. An upload that has the
// weaker lock of the project does not queue for the stronger one behind the removal, see skip_tuple_lock in
// heap_lock_tuple of PostgreSQL.
func TestRemovalOfAProjectDuringUploads(t *testing.T) {
	t.Parallel()
	ctx, address := t.Context(), storetest.Postgres(t)
	s := withProjects(t, address)
	quota := bfia.ProjectQuota{Storage: 1 << 40}
	_, err := s.SetProject(ctx, bfia.SetProject{Name: "b", Quota: quota.Change()})
	require.NoError(t, err)
	s.OnWriteError(func(err error) {
		if strings.Contains(err.Error(), "deadlock") {
			assert.NoError(t, err)
		}
	})
	put := func(name, generation string) error {
		if err := s.CreateGeneration(ctx, "n", name, generation, time.Now()); err != nil {
			return err
		}
		return s.PutDataTable(ctx, store.DataTable{Namespace: "n", Name: name, Generation: generation,
			Project: "b", Bytes: 1})
	}
	require.NoError(t, put("x", "x1"))
	require.NoError(t, put("y", "y1"))

	db := rawDB(t, address)
	hold := func(statement string) *sql.Tx {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback() })
		_, err = tx.ExecContext(ctx, statement)
		require.NoError(t, err)
		return tx
	}
	awaitWaiting := func(n int) {
		require.Eventually(t, func() bool {
			var waiting int
			assert.NoError(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM pg_stat_activity WHERE "+
				"datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting))
			return waiting == n
		}, 30*time.Second, 10*time.Millisecond)
	}
	x := hold("SELECT * FROM t_data_table WHERE name = 'x' FOR UPDATE")
	y := hold("SELECT * FROM t_data_table WHERE name = 'y' FOR UPDATE")
	var all sync.WaitGroup
	all.Go(func() { assert.NoError(t, put("x", "x2")) })
	awaitWaiting(1)
	all.Go(func() { assert.NoError(t, put("y", "y2")) })
	awaitWaiting(2)
	all.Go(func() { assert.Equal(t, bfia.CodeConflict, bfia.CodeOf(s.RemoveProject(ctx, "b"))) })
	awaitWaiting(3)
	sum := hold("LOCK TABLE t_task_output") // of which uploads read how much the project stores
	require.NoError(t, x.Rollback())
	awaitWaiting(3)
	require.NoError(t, y.Rollback())
	all.Go(func() {
		_, err := s.BeginModelImport(ctx, trainedModel("imported", "m"), "b")
		assert.NoError(t, err)
	})
	awaitWaiting(4)
	require.NoError(t, sum.Rollback())
	all.Wait()
}
