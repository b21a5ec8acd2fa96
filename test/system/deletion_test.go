package system

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"hutong/bfia"
)

// uploadRows uploads a dataset of one row.
func (n *testParty) uploadRows(namespace, name, value string) error {
	return n.client.Upload(n.t.Context(), n.url, "rows.csv", []byte("id,x\n1,"+value+"\n"),
		map[string]string{"namespace": namespace, "name": name})
}

// remains returns what the party's storage and database still hold of a text, and the workflows of a job.
func (n *testParty) remains(text string) []string {
	n.t.Helper()
	var found []string
	root := strings.TrimPrefix(n.cfg.Storage.URL.Reveal(), "file://")
	require.NoError(n.t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the party has just removed it
		}
		if strings.Contains(strings.TrimPrefix(path, root), text) {
			found = append(found, path)
		}
		return err
	}))
	return append(found, n.rowsWith(text)...)
}

// rowsWith returns the tables of the party's SQLite database with a row that contains a text. The audit trail
// and the job's account (its project, bytes exchanged with partners, use of resources), which outlive the
// job, do not count.
func (n *testParty) rowsWith(text string) []string {
	n.t.Helper()
	path := strings.TrimPrefix(n.cfg.Database.URL.Reveal(), "sqlite://")
	db := openSQLite(n.t, path)
	rows, err := db.QueryContext(n.t.Context(),
		"SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 't_audit%' "+
			"AND name NOT IN ('t_job_project', 't_transfer', 't_usage')")
	require.NoError(n.t, err)
	var tables, found []string
	for rows.Next() {
		var name string
		require.NoError(n.t, rows.Scan(&name))
		tables = append(tables, name)
	}
	require.NoError(n.t, rows.Err())
	for _, table := range tables {
		rows, err := db.QueryContext(n.t.Context(), "SELECT * FROM "+table)
		require.NoError(n.t, err)
		columns, err := rows.Columns()
		require.NoError(n.t, err)
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new([]byte)
			}
			require.NoError(n.t, rows.Scan(values...))
			for i, v := range values {
				if strings.Contains(string(*v.(*[]byte)), text) {
					found = append(found, table+"."+columns[i])
				}
			}
		}
		require.NoError(n.t, rows.Err())
	}
	return found
}

// workflowsOf returns how many workflows of a job Temporal lists.
func (n *testParty) workflowsOf(jobID string) int {
	n.t.Helper()
	list, err := n.temporalClient().ListWorkflow(n.t.Context(),
		&workflowservice.ListWorkflowExecutionsRequest{Namespace: n.cfg.Temporal.Namespace,
			Query: "HutongJobID = '" + jobID + "'"})
	require.NoError(n.t, err)
	return len(list.GetExecutions())
}

// gatedJob submits a job of the component Run whose task a waits for a gate, with a dataset of the guest.
func (pair *partyPair) gatedJob(dataset, old string) (jobID string, open func()) {
	pair.t.Helper()
	gate := filepath.Join(pair.t.TempDir(), "gate")
	jobID = pair.guest.submit(editJSON(pair.t, shellJob(pair.t, map[string]string{"a": gate}),
		func(f map[string]any) {
			if old != "" {
				f["old_job_id"] = old
			}
			params := f["config"].(map[string]any)["task_params"].(map[string]any)
			reads := map[string]string{"dataset_id": dataset}
			params["guest"] = map[string]any{"0": map[string]any{"a": reads}}
		}))
	return jobID, func() { require.NoError(pair.t, os.WriteFile(gate, nil, 0o600)) }
}

// Datasets, jobs and providers are deleted as a whole, at the command line. Each deletion is refused, with
// the jobs, while jobs use the thing; show says by which jobs.
func TestDeletionIsWhole(t *testing.T) {
	t.Parallel()
	pair := shellParties(t)
	n := pair.guest
	require.NoError(t, n.uploadRows("deleted", "rows", "old"))
	require.NoError(t, n.uploadRows("deleted", "rows", "seen"))
	jobID, open := pair.gatedJob("deleted#rows", "")
	n.awaitJob(jobID, time.Minute, isTaskRunning("a"))

	for _, args := range [][]string{{"data", "delete", "deleted#rows"}, {"provider", "delete", "sh"},
		{"job", "delete", jobID}} {
		out, ok := n.command(args...)
		require.False(t, ok, "%v: %s", args, out)
		require.Contains(t, out, jobID, "%v", args)
	}
	for _, args := range [][]string{{"data", "show", "deleted", "rows"}, {"provider", "show", "sh:1"}} {
		require.Regexp(t, jobID+` +RUNNING`, n.mustCommand(args...))
	}
	require.NoError(t, n.uploadRows("deleted", "rows", "new")) // changes nothing for the job
	open()
	requireSuccess(t, n.awaitJob(jobID, time.Minute, isFinished))
	require.Equal(t, "id,x\n1,seen\n", n.download(n.outputs(jobID)["a guest.0 out"]))
	require.Regexp(t, jobID+` +FINISHED`, n.mustCommand("data", "show", "deleted#rows"))

	// A job that reuses outputs of another one keeps it.
	again, open := pair.gatedJob("deleted#rows", jobID)
	open()
	requireSuccess(t, n.awaitJob(again, time.Minute, isFinished))
	require.NotEmpty(t, n.remains(jobID))
	n.requireEnded(again, time.Minute) // the party's own row may end after the scheduler's

	require.Contains(t, n.mustCommand("data", "delete", "deleted#rows"), "dataset deleted#rows deleted")
	require.Empty(t, n.remains("rows."))
	require.Empty(t, n.rowsIn("t_data_table", "t_data_generation"))
	out, ok := n.command("data", "delete", "deleted#rows")
	require.False(t, ok)
	require.Contains(t, out, "is not known")

	n.mustCommand("provider", "delete", "sh")
	out, ok = n.command("provider", "show", "sh")
	require.False(t, ok)
	require.Contains(t, out, "no provider sh is registered")

	taskIDs := []string{}
	for _, task := range n.status(jobID).Tasks {
		taskIDs = append(taskIDs, task.TaskID)
	}
	n.mustCommand("job", "delete", jobID, again)
	for _, text := range append(taskIDs, jobID, again) {
		require.Empty(t, n.remains(text))
	}
	for _, id := range []string{jobID, again} {
		require.Eventually(t, func() bool { return n.workflowsOf(id) == 0 }, 2*time.Minute,
			100*time.Millisecond, "Temporal deletes in the background")
		out, ok = n.command("job", "status", id)
		require.False(t, ok, out)
		requireSuccess(t, pair.host.status(id)) // other parties keep theirs
	}
}

// A provider that running jobs use is deleted by force only, and they run on.
func TestDeleteProviderByForce(t *testing.T) {
	t.Parallel()
	pair := shellParties(t)
	require.NoError(t, pair.guest.uploadRows("n", "d", "1"))
	jobID, open := pair.gatedJob("n#d", "")
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("a"))
	out, ok := pair.guest.command("provider", "delete", "sh:1@process")
	require.False(t, ok)
	require.Contains(t, out, "provider sh:1 is used by job "+jobID+" (RUNNING)")
	pair.guest.mustCommand("provider", "delete", "sh:1@process", "--force")
	open()
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
}

// The address of a job's output can't become a dataset by any endpoint, nor be deleted as one, and a job
// reads registered datasets only, never outputs of another one.
func TestOutputsBelongToTheirJob(t *testing.T) {
	t.Parallel()
	pair := shellParties(t)
	n := pair.guest
	require.NoError(t, n.uploadRows("n", "d", "1"))
	jobID, open := pair.gatedJob("n#d", "")
	open()
	requireSuccess(t, n.awaitJob(jobID, time.Minute, isFinished))
	model := n.outputs(jobID)["a guest.0 model"]
	before := n.download(model)

	err := n.uploadRows(model.Namespace, model.Name, "forged")
	require.ErrorContains(t, err, "belongs to job "+jobID)
	require.ErrorContains(t, n.uploadRows(model.Namespace, "later", "forged"),
		"is reserved for outputs of jobs")
	file := filepath.Join(n.cfg.Upload.Dir, "rows.csv")
	require.NoError(t, os.MkdirAll(n.cfg.Upload.Dir, 0o750))
	require.NoError(t, os.WriteFile(file, []byte("id,x\n1,forged\n"), 0o600))
	request, err := json.Marshal(map[string]any{"file": file, "namespace": model.Namespace,
		"name": model.Name, "head": true, "partitions": 1})
	require.NoError(t, err)
	address, err := json.Marshal(bfia.Address{Namespace: model.Namespace, Name: model.Name})
	require.NoError(t, err)
	for path, body := range map[string][]byte{bfia.PathComponentUpload: request, bfia.PathDataUpload: request,
		bfia.PathDataDelete: address} {
		env, _ := n.request(http.MethodPost, path, body)
		require.Equal(t, bfia.CodeConflict, env.Code, env.Text())
		require.Contains(t, env.Text(), "belongs to job "+jobID)
	}
	require.Equal(t, before, n.download(model))

	stranger := editJSON(t, shellJob(t, nil), func(f map[string]any) {
		params := f["config"].(map[string]any)["task_params"].(map[string]any)
		params["guest"] = map[string]any{"0": map[string]any{"a": map[string]string{
			"dataset_id": url.PathEscape(model.Namespace) + "#" + model.Name}}}
	})
	env, _ := n.request(http.MethodPost, bfia.PathPlatformCreateAll, stranger)
	require.Equal(t, bfia.CodeConflict, env.Code, env.Text())
	require.Contains(t, env.Text(), "belongs to job "+jobID)
}

// rowsIn returns which of some tables of the party's SQLite database have rows.
func (n *testParty) rowsIn(tables ...string) []string {
	n.t.Helper()
	db := openSQLite(n.t, strings.TrimPrefix(n.cfg.Database.URL.Reveal(), "sqlite://"))
	var found []string
	for _, table := range tables {
		var rows int
		require.NoError(n.t, db.QueryRowContext(n.t.Context(), "SELECT count(*) FROM "+table).Scan(&rows))
		if rows > 0 {
			found = append(found, table)
		}
	}
	return found
}

func openSQLite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
