package system

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/party"
	"hutong/store"
)

// rulesOf returns the approval rules of a party.
func (n *testParty) rulesOf() (rules []bfia.ApprovalRule) {
	n.t.Helper()
	n.mustRequest(http.MethodGet, bfia.PathApprovalRuleQuery, nil, &rules)
	return rules
}

func (n *testParty) approval(jobID string) (a bfia.Approval) {
	n.t.Helper()
	n.mustRequest(http.MethodGet, bfia.PathJobApproval+"?job_id="+jobID, nil, &a)
	return a
}

// TestApprovalRules has a host that approves the first job of a flow by hand, and the like by a rule. The
// second job runs without a person. A job with another program, or of a dataset with another column, waits,
// and so does each job once the rule is removed.
func TestApprovalRules(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, "/bin/sh")
		if cfg.NodeID == hostNode {
			cfg.Jobs.Approval = party.ApprovalManual
		}
	})
	pair.guest.start()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.registerShell("Copy", "first", "out", "model")
		require.NoError(t, n.uploadRows("n", "d", "1"))
	}
	document := copyJob(t)
	first := pair.guest.submit(document)
	require.Equal(t, bfia.JobPending, pair.host.status(first).State)
	scope := pair.host.approval(first).Scope
	require.NotNil(t, scope)
	require.Equal(t, []string{"id", "x"}, scope.Uses[0].Columns)
	body, err := json.Marshal(map[string]any{"scope": scope, "until": time.Now().Add(time.Hour),
		"note": "weekly", "job_id": first})
	require.NoError(t, err)
	var rule bfia.ApprovalRule
	pair.host.mustRequest(http.MethodPost, bfia.PathApprovalRuleAdd, body, &rule)
	require.Equal(t, bfia.JobPending, pair.host.status(first).State, "a rule approves no job that waits")
	env, _ := pair.host.audit(first, bfia.JobReady, "")
	require.True(t, env.OK(), env.Text())
	requireSuccess(t, pair.guest.awaitJob(first, time.Minute, isFinished))

	second := pair.guest.submit(document)
	requireSuccess(t, pair.guest.awaitJob(second, time.Minute, isFinished))
	require.Equal(t, rule.ID, pair.host.status(second).ApprovalRule)
	require.Equal(t, 1, pair.host.rulesOf()[0].Used)
	require.Contains(t, strings.Join(pair.host.approval(second).Text, "\n"),
		"Approval rule "+rule.ID+" (weekly)")
	entries, err := pair.host.database().AuditEntries(t.Context(), store.AuditFilter{Act: audit.Approve,
		Object: audit.Object{Kind: audit.Job, ID: second}})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "approval rule "+rule.ID, entries[0].Reason)

	waits := func(text string) {
		t.Helper()
		id := pair.guest.submit(document)
		require.Equal(t, bfia.JobPending, pair.host.status(id).State)
		require.Contains(t, strings.Join(pair.host.approval(id).Text, "\n"), text)
		env, _ := pair.host.audit(id, bfia.JobRejected, "")
		require.True(t, env.OK(), env.Text())
		pair.guest.awaitJob(id, time.Minute, hasState(bfia.JobRejected))
	}
	require.NoError(t, pair.host.client.Upload(t.Context(), pair.host.url, "rows.csv",
		[]byte("id,x,iban\n1,2,3\n"), map[string]string{"namespace": "n", "name": "d"}))
	waits("task a, host.0: there are further columns: iban, the rule allows id, x")
	require.NoError(t, pair.host.uploadRows("n", "d", "2"))
	pair.host.registerShell("Copy", "second", "out", "model")
	waits("task a, host.0: image digest differs: process [")

	pair.host.mustRequest(http.MethodPost, bfia.PathApprovalRuleRemove,
		[]byte(`{"rule_id":"`+rule.ID+`"}`), nil)
	id := pair.guest.submit(document)
	require.Equal(t, bfia.JobPending, pair.host.status(id).State)
	require.NotNil(t, pair.host.rulesOf()[0].RemovedAt)
}

// copyJob returns a job of one task that copies the dataset n#d at each party.
func copyJob(t *testing.T) []byte {
	t.Helper()
	read := map[string]any{"0": map[string]any{"a": map[string]string{"dataset_id": "n#d"}}}
	job, err := json.Marshal(map[string]any{"flow_id": "copies",
		"dag": map[string]any{"version": "2.0", "components": []any{map[string]any{"name": "a",
			"componentName": "Copy", "provider": "sh", "version": "1",
			"input": []any{}, "output": []any{map[string]string{"type": "dataset", "key": "d"}}}}},
		"config": map[string]any{"version": "2.0.0",
			"initiator":   map[string]string{"role": "guest", "node_id": guestNode},
			"role":        map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}},
			"job_params":  map[string]any{"common": map[string]any{"sync_type": "callback"}},
			"task_params": map[string]any{"common": map[string]any{}, "guest": read, "host": read}}})
	require.NoError(t, err)
	return job
}
