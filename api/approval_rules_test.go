package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/workflows"
)

// approvalOf returns what an approver sees of a job.
func (p *party) approvalOf(id string) bfia.Approval {
	p.t.Helper()
	var a bfia.Approval
	p.good(get(bfia.PathJobApproval + "?job_id=" + id)).into(&a)
	return a
}

// create creates the captured job at a party, and returns in which state.
func (p *party) createAt(id string, replace ...string) bfia.JobState {
	p.t.Helper()
	var answer bfia.JobAccepted
	p.good(post(bfia.PathCreate, job(p.t, id, replace...)).from(guest)).into(&answer)
	return answer.State
}

// resolved registers the provider of the captured job and resolves its image.
func (p *party) resolved(id string) *party {
	p.t.Helper()
	return p.withProvider().resolve(id)
}

// resolve resolves the image of the captured job's provider.
func (p *party) resolve(id string) *party {
	p.t.Helper()
	providers, err := p.store.Providers(p.t.Context(), store.ProviderFilter{})
	require.NoError(p.t, err)
	require.Len(p.t, providers, 1)
	var metadata bfia.Metadata
	require.NoError(p.t, json.Unmarshal(providers[0].Metadata, &metadata))
	require.NoError(p.t, p.store.ResolveImages(p.t.Context(), providers[0], "runner1",
		map[string]string{metadata.Image: id}))
	return p
}

// TestApprovalRules checks that the rule of a job approves the like, that another parameter, digest or column
// waits, and that a removed rule approves nothing.
func TestApprovalRules(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Approval = true }).resolved("sha256:1").withData()
	require.Equal(t, bfia.JobPending, p.createAt("j1"))
	require.True(t, p.engine.party.Approval)
	first := p.approvalOf("j1")
	require.Nil(t, first.NearRule)
	require.Len(t, first.Scope.Uses, 4, "two tasks with two parts here")
	require.Equal(t, []string{"id", "y", "x0"}, first.Scope.Uses[0].Columns)
	require.Equal(t, []string{"docker sha256:1"}, first.Scope.Uses[0].Images)
	require.Contains(t, strings.Join(first.ScopeText, "\n"), "reads dataset testspace#test_guest")

	rule := map[string]any{"scope": first.Scope, "until": time.Now().Add(time.Hour), "note": "weekly",
		"job_id": "j1"}
	p.bad(post(bfia.PathApprovalRuleAdd, map[string]any{"scope": first.Scope}), 400, bfia.CodeBadRequest,
		"until: is required")
	p.bad(post(bfia.PathApprovalRuleAdd, map[string]any{"until": time.Now().Add(time.Hour)}), 400,
		bfia.CodeBadRequest, "scope.initiator: is required")
	var added bfia.ApprovalRule
	p.good(post(bfia.PathApprovalRuleAdd, rule)).into(&added)
	require.Equal(t, first.ScopeText, added.Text[:len(first.ScopeText)])
	now := p.approvalOf("j1")
	require.Empty(t, now.NearRule.Mismatches)
	require.Contains(t, now.Text, "Approval rule "+added.ID+
		" (weekly) covers the job, but was made after the job arrived")
	require.Equal(t, bfia.JobPending, p.createAt("j1"), "a rule approves no job that has arrived")

	require.Equal(t, bfia.JobReady, p.createAt("j2"))
	require.False(t, p.engine.party.Approval)
	require.Equal(t, bfia.JobReady, p.createAt("j2"))
	approved := p.approvalOf("j2")
	require.Equal(t, added.ID, approved.Rule.ID)
	require.Equal(t, 1, approved.Rule.Used)
	entries, err := p.store.AuditOfJob(t.Context(), "j2")
	require.NoError(t, err)
	require.Equal(t, "job.approve", entries[0].Act)
	require.Equal(t, identity.ByRule, entries[0].Proof)
	require.Equal(t, "approval rule "+added.ID, entries[0].Reason)
	var status bfia.JobStatus
	p.good(get(bfia.PathPlatformStatusAll + "?job_id=j2")).into(&status)
	require.Equal(t, added.ID, status.ApprovalRule)

	require.Equal(t, bfia.JobPending, p.createAt("j3", `"learning_rate": 0.5`, `"learning_rate": 0.7`))
	require.Contains(t, p.approvalOf("j3").Text,
		"  task hetero_secureboost_1, host.0: parameter learning_rate differs: 0.7, the rule allows 0.5")
	p.file("more.csv", "id,y,x0,x1\n1,0,0.5,3\n")
	p.good(post(bfia.PathComponentUpload,
		map[string]any{"file": "more.csv", "namespace": "testspace", "name": "test_host"}))
	require.Equal(t, bfia.JobPending, p.createAt("j4"))
	require.Contains(t, p.approvalOf("j4").Text,
		"  task intersect_rsa_1, host.0: there are further columns: x1, the rule allows id, y, x0")
	p.withData().resolved("sha256:2")
	require.Equal(t, bfia.JobPending, p.createAt("j5"))
	require.Contains(t, p.approvalOf("j5").Text,
		"  task intersect_rsa_1, host.0: image digest differs: docker sha256:2, "+
			"the rule allows docker sha256:1")
	p.resolved("sha256:1")
	require.Equal(t, bfia.JobReady, p.createAt("j6"))

	p.bad(post(bfia.PathApprovalRuleRemove, bfia.ApprovalRuleRef{}), 400, bfia.CodeBadRequest,
		"rule_id: is required")
	p.bad(post(bfia.PathApprovalRuleRemove, bfia.ApprovalRuleRef{ID: "none"}), 404, bfia.CodeNotFound, "none")
	p.adds(post(bfia.PathApprovalRuleRemove, bfia.ApprovalRuleRef{ID: added.ID}),
		"rule.remove rule "+added.ID+" allowed")
	require.Equal(t, bfia.JobPending, p.createAt("j7"))
	var rules []bfia.ApprovalRule
	p.good(get(bfia.PathApprovalRuleQuery)).into(&rules)
	require.Len(t, rules, 1)
	require.Equal(t, 2, rules[0].Used)
	require.NotNil(t, rules[0].RemovedAt)
}

// TestRefusedJobForgetsTheRule checks that a job whose workflow refuses it was approved by nobody.
func TestRefusedJobForgetsTheRule(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Approval = true }).resolved("sha256:1").withData()
	p.createAt("j1")
	p.good(post(bfia.PathApprovalRuleAdd, map[string]any{"scope": p.approvalOf("j1").Scope,
		"until": time.Now().Add(time.Hour)}))
	p.engine.set(workflows.Refuse(bfia.CodeConflict, "no"), nil)
	p.bad(post(bfia.PathCreate, job(t, "j2")).from(guest), 200, bfia.CodeConflict, "no")
	p.engine.set(nil, nil)
	id, err := p.store.DecidingRule(t.Context(), "j2")
	require.NoError(t, err)
	require.Empty(t, id)
	clients, err := p.store.JobClients(t.Context(), "j2")
	require.NoError(t, err)
	require.Empty(t, clients)
}

// TestApprovalRuleNeedsTheProvedInitiator checks that a rule for this party's own jobs approves none that a
// partner sends in its name.
func TestApprovalRuleNeedsTheProvedInitiator(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.Approval, c.Schedulers = true, map[string][]string{guest: {host}}
	}).resolved("sha256:1").withData()
	p.createAt("j1")
	scope := *p.approvalOf("j1").Scope
	scope.Scheduler = host
	p.good(post(bfia.PathApprovalRuleAdd, map[string]any{"scope": scope, "until": time.Now().Add(time.Hour)}))
	var answer bfia.JobAccepted
	p.good(post(bfia.PathCreate, job(t, "j2")).from(host)).into(&answer)
	require.Equal(t, bfia.JobPending, answer.State)
	require.Contains(t, p.approvalOf("j2").Text, "  initiator differs: "+host+", the rule allows "+guest)
}

// TestApprovalRulesOfFourEyes checks the roles, and that the rule of the client who submits a job does not
// approve it where four eyes are required.
func TestApprovalRulesOfFourEyes(t *testing.T) {
	address := storetest.SQLite(t)
	p := newStrictParty(t, storetest.Open(t, address), func(c *Config) {
		c.Approval, c.CheckDatasets = true, false
	})
	tokens, own := storetest.Open(t, address), p.store
	p.store = tokens
	alice := p.token("alice", nil, identity.Operator, identity.Approver, identity.Viewer)
	bob := p.token("bob", nil, identity.Approver)
	viewer := p.token("eve", nil, identity.Viewer)
	root := p.token("root", nil, identity.Admin)
	p.store = own
	over := p.client()
	p.server.Config.Clients = nil // the applications hold the authenticator

	ask := func(token, method, path string, body, into any) int {
		t.Helper()
		status, _, answer := p.ask(over, token, method, path, body)
		if into != nil {
			require.Equal(t, http.StatusOK, status, answer.Text())
			require.NoError(t, json.Unmarshal(answer.Data, into))
		}
		return status
	}
	require.Equal(t, http.StatusOK, ask(root, http.MethodPost, bfia.PathProviderRegister,
		json.RawMessage(vector(t, "provider_register.request.json")), nil))
	p.resolve("sha256:1")
	submit := func(id string) bfia.JobState {
		t.Helper()
		require.Equal(t, http.StatusOK, ask(alice, http.MethodPost, bfia.PathPlatformCreateAll,
			json.RawMessage(job(t, id)), nil))
		return p.createAt(id) // as the scheduler's workflow does
	}
	require.Equal(t, bfia.JobPending, submit("j1"))
	var approval bfia.Approval
	ask(bob, http.MethodGet, bfia.PathJobApproval+"?job_id=j1", nil, &approval)
	scope, err := approval.Scope.Open([]string{bfia.AnyColumns}) // nobody has uploaded the datasets
	require.NoError(t, err)
	rule := map[string]any{"scope": scope, "until": time.Now().Add(time.Hour)}
	require.Equal(t, http.StatusForbidden, ask(viewer, http.MethodPost, bfia.PathApprovalRuleAdd, rule, nil))
	var hers, his bfia.ApprovalRule
	ask(alice, http.MethodPost, bfia.PathApprovalRuleAdd, rule, &hers)
	require.Equal(t, "alice", hers.CreatedBy)
	require.Equal(t, bfia.JobPending, submit("j2"))
	ask(bob, http.MethodGet, bfia.PathJobApproval+"?job_id=j2", nil, &approval)
	require.Contains(t, approval.Text, "  alice made it and submitted the job, and four eyes are required")

	ask(bob, http.MethodPost, bfia.PathApprovalRuleAdd, rule, &his)
	require.Equal(t, bfia.JobReady, submit("j3"))
	var status bfia.JobStatus
	ask(root, http.MethodGet, bfia.PathPlatformStatusAll+"?job_id=j3", nil, &status)
	require.Equal(t, []string{"bob"}, status.ApprovedBy)
	require.Equal(t, his.ID, status.ApprovalRule)
	r := p.good(get(bfia.PathStatusAll + "?job_id=j3").from(guest))
	require.NotContains(t, string(r.Data), his.ID, "partners don't learn the party's rules")

	var rules []bfia.ApprovalRule
	for _, token := range []string{viewer, bob} {
		ask(token, http.MethodGet, bfia.PathApprovalRuleQuery, nil, &rules)
		require.Len(t, rules, 2)
	}
	ref := bfia.ApprovalRuleRef{ID: his.ID}
	require.Equal(t, http.StatusForbidden,
		ask(viewer, http.MethodPost, bfia.PathApprovalRuleRemove, ref, nil))
	require.Equal(t, http.StatusOK, ask(alice, http.MethodPost, bfia.PathApprovalRuleRemove, ref, nil))
	require.Equal(t, bfia.JobPending, submit("j4"))
}
