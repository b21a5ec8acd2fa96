package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestApprovalInWords checks the description of a job of this party, before and after an earlier job of its
// flow was approved by a client.
func TestApprovalInWords(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Approval = true }).withProvider().withData()
	approval := func(id string) bfia.Approval {
		t.Helper()
		var a bfia.Approval
		p.good(get(bfia.PathJobApproval + "?job_id=" + id)).into(&a)
		return a
	}
	p.bad(get(bfia.PathJobApproval), 400, bfia.CodeBadRequest, "job_id: is required")
	p.bad(get(bfia.PathJobApproval+"?job_id=nobody"), 404, bfia.CodeNotFound, "nobody")

	p.good(post(bfia.PathCreate, job(t, "j1")).from(guest))
	first := approval("j1")
	require.Equal(t, "j1", first.JobID)
	require.Equal(t, guest, first.NodeID)
	require.Empty(t, first.Previous)
	read := first.Reads[0]
	require.Equal(t, "testspace#test_guest", read.Dataset)
	require.Equal(t, []string{"id", "y", "x0"}, read.Columns)
	require.Equal(t, []string{"id"}, read.Named)
	require.EqualValues(t, 2, read.Rows)
	require.Len(t, first.Reads, 4, "two tasks with two parts here")
	require.Equal(t, []string{"testspace#test_guest", "testspace#test_host"}, first.Reads[2].Derived)
	require.Contains(t, first.Text, guest+" has approved no earlier job of flow JG0100001100000000 of this initiator")

	// A job that was created is not one that was approved.
	p.good(post(bfia.PathCreate, job(t, "j2", `"learning_rate": 0.5`, `"learning_rate": 0.7`)).from(guest))
	require.Empty(t, approval("j2").Previous)
	p.good(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobReady}))
	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobReady, "", time.Now()))
	second := approval("j2")
	require.Equal(t, "j1", second.Previous)
	require.Equal(t, []bfia.ApprovalDifference{
		{Task: "hetero_secureboost_1", Role: "guest.0", Field: bfia.FieldParameter,
			Parameter: "learning_rate", Now: "0.7", Was: "0.5"},
		{Task: "hetero_secureboost_1", Role: "host.0", Field: bfia.FieldParameter,
			Parameter: "learning_rate", Now: "0.7", Was: "0.5"},
	}, second.Differences)
	require.Contains(t, second.Text,
		"  task hetero_secureboost_1, host.0, parameter learning_rate: 0.7, was 0.5")
	require.Empty(t, approval("j1").Previous, "a job is not compared with itself")
}
