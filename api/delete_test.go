package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// Jobs, datasets and providers that something uses are not deleted. The error names the jobs, and so do the
// queries.
func TestDeleteWhatIsUsed(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreateAll, job(t, "used")).from(guest))
	p.good(post(bfia.PathCreate, job(t, "used")).from(host))
	tables, err := p.store.DataTables(t.Context(), "")
	require.NoError(t, err)
	dataset := bfia.Address{Namespace: tables[0].Namespace, Name: tables[0].Name}

	p.bad(post(bfia.PathJobDelete, `{"job_id":"used"}`), 409, bfia.CodeConflict, "job used is ")
	p.bad(post(bfia.PathDataDelete, dataset), 409, bfia.CodeConflict, "is read by job used (READY)")
	p.bad(post(bfia.PathProviderDelete, `{"name":"unionpay"}`), 409, bfia.CodeConflict,
		"provider unionpay:2.0.0 is used by job used")
	for _, path := range []string{bfia.PathDataQuery + "?jobs=true&name=" + dataset.Name,
		bfia.PathProviderQuery + "?jobs=true"} {
		var list []struct {
			Jobs []struct {
				JobID string `json:"job_id"`
			} `json:"jobs"`
		}
		p.good(get(path)).into(&list)
		require.Equal(t, "used", list[0].Jobs[0].JobID)
	}

	require.NoError(t, p.store.UpdateJob(t.Context(), "used", bfia.JobFinished, "", time.Now()))
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "used", bfia.JobFinished, "", time.Now()))
	for _, c := range []call{post(bfia.PathProviderDelete, `{"name":"unionpay"}`),
		post(bfia.PathDataDelete, dataset), post(bfia.PathJobDelete, `{"job_id":"used"}`)} {
		p.good(c)
		p.bad(c, 404, bfia.CodeNotFound)
	}
	_, err = p.store.Document(t.Context(), "used")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
}

// A provider that unfinished jobs use is deleted by force.
func TestDeleteProviderByForce(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "used")).from(host))
	p.bad(post(bfia.PathProviderDelete, `{"name":"unionpay","force":1}`), 400, bfia.CodeBadRequest, "force:")
	p.good(post(bfia.PathProviderDelete, `{"name":"unionpay","force":true}`))
	p.good(post(bfia.PathCreate, job(t, "used")).from(host)) // repeated, by the job's record
	p.bad(post(bfia.PathCreate, job(t, "other")).from(host), 200, bfia.CodeNotFound, "is not registered")
}

// A rehearsal reads synthetic rows, at all tasks, which the party makes and deletes with the dataset.
func TestRehearsal(t *testing.T) {
	p := newParty(t).withProvider().withData()
	one := job(t, "one", `"testspace#test_guest"`, `"rehearsal.testspace#test_guest"`)
	p.bad(post(bfia.PathCreate, one).from(host), 200, bfia.CodeBadRequest,
		"reads the dataset testspace#test_host, and other tasks of this job read synthetic rows")
	both := func(id string) string {
		return job(t, id, `"testspace#test_guest"`, `"rehearsal.testspace#test_guest"`, `"testspace#test_host"`,
			`"rehearsal.testspace#test_host"`)
	}
	p.good(post(bfia.PathCreate, both("all")).from(host))
	rows := bfia.Address{Namespace: "rehearsal.testspace", Name: "test_guest"}
	tables, err := p.store.DataTables(t.Context(), rows.Namespace)
	require.NoError(t, err)
	require.Len(t, tables, 2, "this party holds both parts")

	p.file("rows.csv", "id,y\n1,0\n")
	p.bad(post(bfia.PathComponentUpload, map[string]any{"file": "rows.csv", "namespace": rows.Namespace,
		"name": "mine"}), 409, bfia.CodeConflict, `namespace: "rehearsal.testspace" is reserved`)

	real := post(bfia.PathDataDelete, bfia.Address{Namespace: "testspace", Name: "test_guest"})
	p.bad(real, 409, bfia.CodeConflict, "job all (READY)")
	require.NoError(t, p.store.UpdateJob(t.Context(), "all", bfia.JobFinished, "", time.Now()))
	p.good(real)
	tables, err = p.store.DataTables(t.Context(), rows.Namespace)
	require.NoError(t, err)
	require.Len(t, tables, 1, "the other one stays")
	p.bad(post(bfia.PathCreate, both("none")).from(host), 200, bfia.CodeNotFound,
		`has no dataset "testspace#test_guest"`)
}
