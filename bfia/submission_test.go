package bfia

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSubmissionDigest checks which changes of a document change what the job does.
func TestSubmissionDigest(t *testing.T) {
	digest := func(text string) string {
		t.Helper()
		doc, err := ParseDocument([]byte(text))
		require.NoError(t, err)
		d, err := doc.SubmissionDigest()
		require.NoError(t, err)
		require.Len(t, d, 64)
		return d
	}
	const job = `{"job_id":"j1","flow_id":"f","dag":{"version":"2.0","components":[{"name":"t",
		"componentName":"C","provider":"p","version":"1","input":[],"output":[]}]},
		"config":{"version":"2","initiator":{"role":"guest","node_id":"A"},
		"role":{"guest":["A"],"host":["B"]},"job_params":{"common":{"sync_type":"poll"}},
		"task_params":{"common":{"t":{"rate":0.001,"seed":12345678901234567890}}}}}`
	replaced := func(from, to string) string {
		require.Contains(t, job, from)
		return strings.Replace(job, from, to, 1)
	}
	same := digest(job)
	for _, c := range []struct {
		name, text string
		equal      bool
	}{
		{"rewritten as FATE-Flow does", `{"config":{"task_params":{"common":{"t":{
			"seed":12345678901234567890,"rate":1e-3}}},"job_params":{"common":{"sync_type":"callback"}},
			"role":{"host":["B"],"guest":["A"]},"initiator":{"node_id":"A","role":"guest"}},
			"dag":{"components":[{"name":"t","componentName":"C","provider":"p","version":"1","input":[],
			"output":[]}],"version":"2.0"},"old_job_id":"","job_id":"j1"}`, true},
		{"job", replaced(`"j1"`, `"j2"`), false},
		{"dataset", replaced(`"rate":0.001`, `"rate":0.001,"dataset_id":"bank#train"`), false},
		{"component", replaced(`"C"`, `"D"`), false},
		{"role", replaced(`["B"]`, `["B","C"]`), false},
		{"parameter", replaced(`12345678901234567890`, `12345678901234567891`), false},
		{"old job", replaced(`"flow_id"`, `"old_job_id":"j0","flow_id"`), false},
		{"initiator", replaced(`"node_id":"A"`, `"node_id":"B"`), false},
	} {
		require.Equal(t, c.equal, digest(c.text) == same, c.name)
	}
}
