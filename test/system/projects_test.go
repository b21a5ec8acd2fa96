package system

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/internal/party"
)

// member returns the party with a user who has some roles.
func (n *testParty) member(user string, roles ...identity.Role) *testParty {
	n.t.Helper()
	token, _, err := party.CreateToken(n.t.Context(), n.cfg, user, roles, nil)
	require.NoError(n.t, err)
	other := *n
	other.client.Token = token
	return &other
}

// of returns the party with a user of one department, who has all roles there.
func (n *testParty) of(project string) *testParty {
	var roles []identity.Role
	for _, role := range []identity.Role{identity.Viewer, identity.Operator, identity.Data, identity.Logs,
		identity.Approver} {
		roles = append(roles, role.In(project))
	}
	return n.member("user-of-"+project, roles...)
}

// departments starts a guest and a host. The host has the departments risk and ads, and approves jobs by
// hand. change may adapt their configurations.
func departments(t *testing.T, change func(*party.Config)) (pair *partyPair, risk, ads *testParty) {
	t.Helper()
	pair = startSleepPair(t, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Jobs.Approval = party.ApprovalManual
		}
		if change != nil {
			change(cfg)
		}
	})
	pair.host.mustCommand("project", "create", "risk")
	pair.host.mustCommand("project", "create", "ads", "--partner-jobs", guestNode+"/ads")
	return pair, pair.host.of("risk"), pair.host.of("ads")
}

// flowJob returns a job of a flow, with one task that sleeps at both parties. params are added to
// job_params.common.
func flowJob(t *testing.T, flow string, sleep time.Duration, params map[string]any) []byte {
	t.Helper()
	return editJSON(t, sleepFor(t, sleep, params), func(job map[string]any) { job["flow_id"] = flow })
}

// submitApproved submits a job at the guest, and lets a user of the host approve it.
func (p *partyPair) submitApproved(by *testParty, document []byte) string {
	p.t.Helper()
	id := p.guest.submit(document)
	env, _ := by.audit(id, bfia.JobReady, "")
	require.True(p.t, env.OK(), env.Text())
	return id
}

// requireHidden requires that a user gets the answer for an unknown job from all endpoints of a job.
func (n *testParty) requireHidden(jobID string) {
	n.t.Helper()
	require.NotContains(n.t, n.listedIDs(url.Values{}), jobID)
	require.NotContains(n.t, n.listedIDs(url.Values{"prefix": {jobID}}), jobID)
	for _, path := range []string{bfia.PathPlatformStatusAll, bfia.PathJobShow, bfia.PathJobDocument,
		bfia.PathJobOutputs, bfia.PathJobAccount} {
		env, status := n.request(http.MethodGet, path+"?job_id="+jobID, nil)
		require.Equal(n.t, http.StatusNotFound, status, "%s: %s", path, env.Text())
	}
	for path, body := range map[string]string{
		bfia.PathPlatformStopAll: `{"job_id":%q}`, bfia.PathJobDelete: `{"job_id":%q}`,
		bfia.PathPlatformPriority: `{"job_id":%q,"priority":9}`,
		bfia.PathPlatformAudit:    `{"job_id":%q,"status":"READY"}`} {
		env, status := n.request(http.MethodPost, path, fmt.Appendf(nil, body, jobID))
		require.Equal(n.t, http.StatusNotFound, status, "%s: %s", path, env.Text())
	}
}

// TestDepartments runs the reference job with a dataset of the department risk of the host, and a job that
// the host gives to the department ads. Each department approves and sees its own job only, with what it has.
func TestDepartments(t *testing.T) {
	t.Parallel()
	pair, risk, ads := departments(t, nil)
	registration := readVector(t, "provider_register.request.json")
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(registration, bfia.DeviceProcess)
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	risk.upload("host.csv", "testspace", "test_host") // its only project
	credit, campaign := pair.guest.submit(referenceJob(t, true)), pair.guest.submit(flowJob(t, "ads", 0, nil))
	for id, c := range map[string]struct {
		project         string
		owner, stranger *testParty
	}{credit: {"risk", risk, ads}, campaign: {"ads", ads, risk}} {
		require.Equal(t, c.project, pair.host.listed(id, url.Values{}).Project)
		require.Equal(t, []string{id}, c.owner.listedIDs(url.Values{}))
		c.stranger.requireHidden(id)
		require.Equal(t, bfia.JobPending, c.owner.status(id).State, "nobody of another project decides")
		env, _ := c.owner.audit(id, bfia.JobReady, "")
		require.True(t, env.OK(), env.Text())
	}
	for _, id := range []string{credit, campaign} {
		requireSuccess(t, pair.guest.awaitJob(id, 3*time.Minute, isFinished))
	}
	risk.awaitJob(credit, time.Minute, isFinished)
	ads.awaitJob(campaign, time.Minute, isFinished)
	ads.requireHidden(credit)
	risk.requireHidden(campaign)

	require.Regexp(t, `JOB +STATE +PROJECT +FLOW`, pair.host.mustCommand("job", "list"))
	require.Regexp(t, credit+` +SUCCESS +risk `, pair.host.mustCommand("job", "list"))
	require.Regexp(t, campaign+` +SUCCESS +ads `, pair.host.mustCommand("job", "list"))
	require.Regexp(t, `testspace +test_host +risk `, pair.host.mustCommand("data", "list"))
	require.Regexp(t, `MODEL +PROJECT +ROLE.*\n\S+ +risk `, pair.host.mustCommand("model", "list"))
	require.NotContains(t, pair.guest.mustCommand("job", "list"), "PROJECT", "it has no other than default")
	for _, list := range [][]string{{"data", "list"}, {"model", "list"}} {
		require.Contains(t, risk.mustCommand(list...), "host", "%v", list)
		require.NotContains(t, ads.mustCommand(list...), "host", "%v", list)
	}
	outputs := risk.outputs(credit)
	require.NotEmpty(t, outputs)
	for name, o := range outputs {
		query := url.Values{"namespace": {o.Namespace}, "name": {o.Name}}.Encode()
		env, status := ads.request(http.MethodGet, bfia.PathDataDownload+"?"+query, nil)
		require.Equal(t, http.StatusNotFound, status, "%s: %s", name, env.Text())
	}
	env, status := ads.request(http.MethodPost, bfia.PathDataDelete,
		[]byte(`{"namespace":"testspace","name":"test_host"}`))
	require.Equal(t, http.StatusNotFound, status, env.Text())
	require.Error(t, ads.client.Upload(t.Context(), ads.url, "host.csv", []byte("id,x\n1,2\n"),
		map[string]string{"head": "true", "partitions": "1", "namespace": "testspace", "name": "test_host"}))

	for _, project := range []string{"risk", "ads"} {
		require.Contains(t, pair.host.failing("project", "remove", project), "delete them first")
	}
	pair.host.mustCommand("project", "create", "empty")
	pair.host.mustCommand("project", "remove", "empty")
}

// TestQuotaOfADepartment has jobs of two departments at the host. Of the department with a quota of one job,
// the second job waits, and those of the other department don't. A job that no quota lets run is refused.
func TestQuotaOfADepartment(t *testing.T) {
	t.Parallel()
	pair, risk, ads := departments(t, func(cfg *party.Config) { cfg.Runner.CPU = 4 }) // more than the quotas
	pair.host.mustCommand("project", "set", "risk", "--partner-jobs", guestNode+"/credit")
	pair.host.mustCommand("project", "set", "ads", "--max-jobs", "1", "--max-cpu", "1")
	first := pair.submitApproved(ads, flowJob(t, "ads", time.Hour, nil))
	pair.guest.awaitJob(first, time.Minute, isTaskRunning("s1"))
	second := pair.submitApproved(ads, flowJob(t, "ads", 0, nil))
	queued := pair.guest.awaitJob(second, time.Minute, isWaitingAt(hostNode)).Queued
	require.Contains(t, queued.Reason, "the quota of the job's project")
	require.Contains(t, queued.Reason, "1 of 1 jobs hold resources")

	other := pair.submitApproved(risk, flowJob(t, "credit", 0, nil))
	requireSuccess(t, pair.guest.awaitJob(other, time.Minute, isFinished))
	require.Equal(t, bfia.JobReady, pair.guest.status(second).State)

	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, flowJob(t, "ads", 0,
		map[string]any{"resources": map[string]any{"cpu": 2, "memory": -1, "disk": -1}}))
	require.False(t, env.OK(), "it needs more than the quota has")
	require.Contains(t, env.Text(),
		"can't hold it: its jobs have 0 of 1 CPU cores, this one needs 2 more")

	pair.guest.stopJob(first)
	requireSuccess(t, pair.guest.awaitJob(second, time.Minute, isFinished))
}

// TestRetentionOfADepartment ends a job of each department. The housekeeping removes that of the department
// whose retention is over.
func TestRetentionOfADepartment(t *testing.T) {
	t.Parallel()
	pair, risk, ads := departments(t, nil)
	pair.host.mustCommand("project", "set", "risk", "--partner-jobs", guestNode+"/credit",
		"--retention", "1h")
	ended := func(by *testParty, flow string) string {
		t.Helper()
		id := pair.submitApproved(by, flowJob(t, flow, 0, nil))
		requireSuccess(t, pair.guest.awaitJob(id, time.Minute, isFinished))
		by.awaitJob(id, time.Minute, isFinished)
		pair.host.backdate(id, "ended_at", 2)
		return id
	}
	kept, removed := ended(ads, "ads"), ended(risk, "credit")
	require.NotZero(t, pair.host.countStoredObjects(removed))

	require.Eventually(t, func() bool { // a workflow that has not closed yet keeps its job
		return pair.host.runHousekeeping().Removed.Jobs == 1
	}, busy*time.Minute, 100*time.Millisecond)
	require.Zero(t, pair.host.runHousekeeping().Removed.Jobs)
	_, status := risk.request(http.MethodGet, bfia.PathPlatformStatusAll+"?job_id="+removed, nil)
	require.Equal(t, http.StatusNotFound, status)
	require.Zero(t, pair.host.countStoredObjects(removed))
	require.True(t, isFinished(ads.status(kept)))
	require.NotZero(t, pair.host.countStoredObjects(kept))
}
