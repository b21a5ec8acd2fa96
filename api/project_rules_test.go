package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestApproversOfProjects checks that an approver of one project sees and decides on its jobs only, and makes
// rules for them only.
func TestApproversOfProjects(t *testing.T) {
	p := withProjects(t, func(c *Config) { c.Approval = true }).resolve("sha256:1")
	var answer bfia.JobAccepted
	create := func(id string) bfia.JobState {
		t.Helper()
		p.good(post(bfia.PathCreate, secretDocument(t, id)).from(host)).into(&answer)
		return answer.State
	}
	require.Equal(t, bfia.JobPending, create("theirs"))
	approve := post(bfia.PathPlatformAudit, bfia.Audit{JobID: "theirs", Status: bfia.JobReady})
	waits := func(roles string) (ids []string) {
		var view bfia.Overview
		p.good(get(bfia.PathOverview).as(roles)).into(&view)
		for _, j := range view.Approvals {
			ids = append(ids, j.JobID)
		}
		return ids
	}
	require.NoError(t, p.store.SetJobWaiting(t.Context(), "theirs",
		[]bfia.Waiting{bfia.WaitForApproval("theirs", guest, time.Now())}))
	require.Empty(t, waits("approver@a"))
	require.Contains(t, waits("approver@b"), "theirs")
	for _, path := range []string{bfia.PathJobShow, bfia.PathJobApproval} {
		p.bad(get(path+"?job_id=theirs").as("approver@a"), 404, bfia.CodeNotFound)
		p.good(get(path + "?job_id=theirs").as("approver@b"))
	}
	p.bad(approve.as("approver@a"), 404, bfia.CodeNotFound)
	p.bad(approve.as("approver@a,viewer"), 404, bfia.CodeNotFound)

	var approval bfia.Approval
	p.good(get(bfia.PathJobApproval + "?job_id=theirs").as("approver@b")).into(&approval)
	require.NotNil(t, approval.Scope)
	rule := func(fields ...string) map[string]any {
		r := map[string]any{"scope": approval.Scope, "until": time.Now().Add(time.Hour), "note": "weekly"}
		for i := 0; i < len(fields); i += 2 {
			r[fields[i]] = fields[i+1]
		}
		return r
	}
	add := func(roles string, fields ...string) call {
		return post(bfia.PathApprovalRuleAdd, rule(fields...)).as(roles)
	}
	p.bad(add("approver@a", "project", "b"), 404, bfia.CodeNotFound, `project: "b" is not known`)
	p.bad(add("approver@a", "job_id", "theirs"), 404, bfia.CodeNotFound)
	p.bad(add("approver@a,approver@b"), 400, bfia.CodeBadRequest, "project: is required")
	var ofA, ofB bfia.ApprovalRule
	p.good(add("approver@a")).into(&ofA)
	require.Equal(t, "a", ofA.Project)
	require.Equal(t, bfia.JobPending, create("second"), "the rule of another project approves nothing")
	p.good(add("approver@b", "job_id", "theirs")).into(&ofB)
	require.Equal(t, "b", ofB.Project)
	require.Equal(t, bfia.JobReady, create("third"))

	var near bfia.Approval
	p.good(get(bfia.PathJobApproval + "?job_id=theirs")).into(&near)
	require.Equal(t, ofB.ID, near.NearRule.ID, "that of the job's project")
	p.good(get(bfia.PathJobApproval + "?job_id=third").as("approver@b")).into(&near)
	require.Equal(t, ofB.ID, near.Rule.ID)

	var rules []bfia.ApprovalRule
	p.good(get(bfia.PathApprovalRuleQuery).as("approver@a")).into(&rules)
	require.Len(t, rules, 1)
	require.Equal(t, ofA.ID, rules[0].ID)
	remove := post(bfia.PathApprovalRuleRemove, bfia.ApprovalRuleRef{ID: ofB.ID})
	p.bad(remove.as("approver@a"), 404, bfia.CodeNotFound)
	p.good(remove.as("approver@b"))
	require.Equal(t, bfia.JobPending, create("fourth"))

	// A rule for all projects approves the jobs of each. Its approvers don't see it.
	var ofAll bfia.ApprovalRule
	p.good(add("approver")).into(&ofAll)
	require.Empty(t, ofAll.Project)
	require.Equal(t, bfia.JobReady, create("fifth"))
	var fifth bfia.Approval
	p.good(get(bfia.PathJobApproval + "?job_id=fifth").as("approver@b")).into(&fifth)
	require.Nil(t, fifth.Rule)
	p.bad(post(bfia.PathApprovalRuleRemove, bfia.ApprovalRuleRef{ID: ofAll.ID}).as("approver@b"), 404,
		bfia.CodeNotFound)
	p.good(approve.as("approver@b"))
}

// TestPartnersJobsOfProject checks that a partner's job which reads nothing here belongs to the project that
// selects it, and one that reads something to the project of that.
func TestPartnersJobsOfProject(t *testing.T) {
	p := withProjects(t)
	selected := func(name string, jobs ...bfia.PartnerJobs) {
		t.Helper()
		p.good(post(bfia.PathProjectSet, bfia.SetProject{Name: name, PartnerJobs: &jobs}))
	}
	selected("a", bfia.PartnerJobs{NodeID: host})
	selected("b", bfia.PartnerJobs{NodeID: host, FlowID: "credit"})
	p.bad(post(bfia.PathProjectSet, bfia.SetProject{Name: "b",
		PartnerJobs: &[]bfia.PartnerJobs{{NodeID: host}}}), 409, bfia.CodeConflict, "partner_jobs[0]",
		"the project a")
	create := func(id, flow, from string, replace ...string) string {
		t.Helper()
		document := job(t, id, append(replace, `"flow_id": "JG0100001100000000"`, `"flow_id": "`+flow+`"`)...)
		p.good(post(bfia.PathCreate, document).from(from))
		project, recorded, err := p.store.JobProject(t.Context(), id)
		require.NoError(t, err)
		require.True(t, recorded)
		return project
	}
	nothing := []string{`"dataset_id": "testspace#test_guest"`, `"x": 1`, `"dataset_id": "testspace#test_host"`,
		`"x": 1`}
	require.Equal(t, "a", create("any-flow", "f", host, nothing...))
	require.Equal(t, "b", create("the-flow", "credit", host, nothing...))
	require.Equal(t, "a", create("reads", "credit", host), "what it reads counts")
	p.peer("JG999", "http://127.0.0.1:1") // nothing listens there
	require.Equal(t, "default", create("another-partner", "credit", "JG999", nothing...))
}

// TestQuotaRefusesJob checks that a job which its project's quota could never hold is refused at once, and
// that the same job of another project is not.
func TestQuotaRefusesJob(t *testing.T) {
	p := withProjects(t)
	p.good(post(bfia.PathProjectSet, bfia.SetProject{Name: "b",
		Quota: bfia.ProjectQuota{Containers: 1}.Change()}))
	p.bad(post(bfia.PathCreate, secretDocument(t, "theirs")).from(host), 200, bfia.CodeBadRequest,
		"could never run the job", "0 of 1 containers, this one needs 2 more")
	p.good(post(bfia.PathCreate, job(t, "others")).from(host))
	p.bad(post(bfia.PathProjectSet, bfia.SetProject{Name: "b",
		Quota: bfia.ProjectQuota{Jobs: -1}.Change()}), 400,
		bfia.CodeBadRequest, "quota.jobs: ")
	p.bad(post(bfia.PathProjectSet, bfia.SetProject{Name: "b", RetentionHours: new(-1)}), 400,
		bfia.CodeBadRequest, "retention_hours: ")
	p.good(post(bfia.PathProjectSet, bfia.SetProject{Name: "b",
		Quota: bfia.ProjectQuota{}.Change()}))
	p.good(post(bfia.PathCreate, secretDocument(t, "theirs")).from(host))
}
