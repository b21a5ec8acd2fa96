package api

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// notActs lists the endpoints that change nothing for a caller, or only report what was commanded before.
var notActs = []string{
	"GET " + bfia.PathModelQuery, "GET " + bfia.PathModelPrediction, "GET " + bfia.PathPeriodicQuery,
	"GET " + bfia.PathProviderQuery, "GET " + bfia.PathDataQuery, "POST " + bfia.PathPlatformCheck,
	"GET " + bfia.PathDataPartners,
	"GET " + bfia.PathPlatformStatusAll, "GET " + bfia.PathPlatformJobList, "GET " + bfia.PathJobShow,
	"GET " + bfia.PathJobAccount,
	"GET " + bfia.PathJobDocument, "GET " + bfia.PathRunnerQuery, "GET " + bfia.PathHealth,
	"GET " + bfia.PathProjectQuery,
	"GET " + bfia.PathPartnerQuery, "GET " + bfia.PathContractQuery, "GET " + bfia.PathNodeQuery,
	"GET " + bfia.PathNodeHealth, "GET " + bfia.PathReady, "GET " + bfia.PathOpenAPI,
	"GET " + pathRoot, "GET " + pathConsole,
	"GET " + bfia.PathGrantRequests, "GET " + bfia.PathDatasetQuery,
	"GET " + bfia.PathGrantQuery, "GET " + bfia.PathTokenQuery, "GET " + bfia.PathWhoAmI, "GET " +
		bfia.PathLogin, "GET " + bfia.PathEvents, "GET " + bfia.PathOverview,
	"GET " + bfia.PathJobApproval, "GET " + bfia.PathApprovalRuleQuery,
	"GET " + bfia.PathNotificationQuery,
	// Reports and the flow control of jobs that were commanded before.
	"GET " + bfia.PathStatusAll, "POST " + bfia.PathStatusAll,
	"POST " + bfia.PathTaskCallback, "POST " + bfia.PathCapacityHint, "POST " + bfia.PathCheck,
	"POST " + bfia.PathTaskPoll, "POST " + bfia.PathReserve, "POST " + bfia.PathRelease,
	"POST " + fateflow.PathJobUpdate, "POST " + fateflow.PathJobApply, "POST " + fateflow.PathJobReturn,
	"POST " + fateflow.PathTaskApply, "POST " + fateflow.PathTaskReturn, "POST " + fateflow.PathTaskStatus,
	"POST " + fateflow.PathTaskCollect, "POST " + fateflow.PathSchedulerJobCreate,
	"POST " + fateflow.PathSchedulerJobRerun, "POST " + fateflow.PathSchedulerTaskReport,
	// FATE's clients.
	"GET " + fateclient.PathJobQuery, "GET " + fateclient.PathJobList,
	"GET " + fateclient.PathTaskQuery, "GET " + fateclient.PathTaskList,
	"GET " + fateclient.PathJobDependency, "GET " + fateclient.PathJobData, "GET " + fateclient.PathSite,
	"GET " + fateclient.PathServer,
}

// TestEachRouteIsAnActOrNot fails for a new endpoint until it is in one of the two tables.
func TestEachRouteIsAnActOrNot(t *testing.T) {
	served := map[string]bool{}
	for _, r := range (&Server{}).routes() {
		name := r.method + " " + r.path
		served[name] = true
		if slices.ContainsFunc(fateclient.Refusals(),
			func(e fateclient.Refusal) bool { return e.Path == r.path }) {
			require.Empty(t, acts[name])
			continue
		}
		require.True(t, (acts[name] != "") != slices.Contains(notActs, name),
			"%s: must be in acts (api/trail.go) or in notActs", name)
	}
	for name := range acts {
		require.True(t, served[name], "%s is an act and not served", name)
	}
}

// trail returns all entries, and checks the chain.
func (p *party) trail() []audit.Entry {
	p.t.Helper()
	_, err := p.store.VerifyAudit(p.t.Context(), audit.Head{})
	require.NoError(p.t, err)
	list, err := p.store.AuditEntries(p.t.Context(), store.AuditFilter{Ascending: true})
	require.NoError(p.t, err)
	return list
}

// adds requires that a request adds these entries, each as "act object outcome".
func (p *party) adds(c call, want ...string) []audit.Entry {
	p.t.Helper()
	before := len(p.trail())
	p.send(c)
	added := p.trail()[before:]
	var got []string
	for _, e := range added {
		got = append(got, strings.Join([]string{e.Act, e.Object.String(), string(e.Outcome)}, " "))
	}
	require.Equal(p.t, want, got, "%s %s", c.method, c.path)
	return added
}

func TestActsAreRecorded(t *testing.T) {
	const id = "202601020304050000001"
	p := newParty(t)
	registration := vector(t, "provider_register.request.json")
	var named struct{ Name, Version, Device string }
	require.NoError(t, json.Unmarshal(registration, &named))
	provider := "provider " + named.Name + ":" + named.Version + "@" + named.Device
	added := p.adds(post(bfia.PathProviderRegister, registration),
		"provider.register "+provider+" allowed")
	sum := sha256.Sum256(registration)
	require.Equal(t, hex.EncodeToString(sum[:]), added[0].Digest)
	require.Equal(t, identity.KindClient, added[0].Kind)
	require.Equal(t, "127.0.0.1", added[0].Address)

	p.file("d.csv", "id,x\n1,2\n")
	upload := map[string]any{"file": "d.csv", "namespace": "n", "name": "d"}
	p.adds(post(bfia.PathDataUpload, upload), "dataset.upload dataset n#d allowed")
	p.adds(
		form(t, bfia.PathDataFile, field{"namespace", "n"}, field{"name", "e"}, field{"file", "id,x\n1,2\n"}),
		"dataset.upload dataset n#e allowed",
	)
	added = p.adds(get(bfia.PathDataDownload+"?namespace=n&name=d"), "dataset.download dataset n#d allowed")
	sum = sha256.Sum256([]byte("GET " + bfia.PathDataDownload + "?namespace=n&name=d"))
	require.Equal(t, hex.EncodeToString(sum[:]), added[0].Digest)
	p.adds(get(bfia.PathDataDownload+"?namespace=n&name=none"), "dataset.download dataset n#none failed")
	p.adds(post(bfia.PathDataDelete, map[string]any{"namespace": "n", "name": "d"}),
		"dataset.delete dataset n#d allowed")
	p.adds(post(bfia.PathDataDelete, map[string]any{"namespace": "n", "name": "d"}),
		"dataset.delete dataset n#d failed")

	p.adds(get(bfia.PathProviderQuery)) // reads of what the party shows anyway are no acts

	p.withData()
	j := "job " + id
	added = p.adds(post(bfia.PathCreateAll, job(t, id)).from(guest), "partner.create-all "+j+" allowed")
	require.Equal(t, guest, added[0].Node)
	p.adds(post(bfia.PathCreate, job(t, id)).from(guest), "partner.create "+j+" allowed")
	p.adds(post(bfia.PathPlatformPriority, map[string]any{"job_id": id, "priority": 3}),
		"job.priority "+j+" allowed", "partner.priority "+j+" allowed")
	p.adds(post(bfia.PathStart, map[string]any{"job_id": id}).from(guest), "partner.start "+j+" allowed")
	tasks, err := p.store.Tasks(t.Context(), id)
	require.NoError(t, err)
	ref := map[string]any{"job_id": id, "task_id": id + "-t", "task_name": tasks[0].Name}
	p.adds(post(bfia.PathTaskStart, ref).from(guest), "partner.task-start "+j+" allowed")
	p.adds(get(bfia.PathJobOutputs+"?job_id="+id), "job.outputs "+j+" allowed")
	p.adds(get(bfia.PathJobOutputs + "?job_id=" + id)) // again within a minute
	p.adds(post(bfia.PathPlatformStopAll, map[string]any{"job_id": id}),
		"job.stop "+j+" allowed", "partner.stop-all "+j+" allowed")
	p.adds(post(bfia.PathStop, map[string]any{"job_id": id}).from(guest), "partner.stop "+j+" allowed")
	p.adds(post(bfia.PathJobDelete, map[string]any{"job_id": id}), "job.delete "+j+" failed") // it runs
	require.NoError(t, p.store.PutRunner(t.Context(), store.Runner{RunnerID: "r", NodeID: guest, Slots: 1}))
	p.adds(post(bfia.PathRunnerDrain, map[string]any{"runner_id": "r", "draining": true}),
		"runner.drain runner r allowed")
	p.adds(get(bfia.PathAuditQuery), "audit.read trail allowed")
	p.adds(post(bfia.PathProviderDelete, map[string]any{"name": named.Name, "force": true}),
		"provider.delete provider "+named.Name+":*@* allowed")
}

func TestApprovalsAreRecorded(t *testing.T) {
	const id = "202601020304050000002"
	p := newParty(t, func(c *Config) { c.Approval = true }).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, id)).from(guest))
	p.adds(post(bfia.PathPlatformAudit, bfia.Audit{JobID: id, Status: bfia.JobReady}),
		"job.approve job "+id+" allowed")
	p.adds(post(bfia.PathPlatformAudit, bfia.Audit{JobID: id, Status: bfia.JobRejected}),
		"job.reject job "+id+" allowed")
	p.adds(post(bfia.PathPlatformAudit, map[string]any{"job_id": id, "status": "SECRET"}),
		"job.approve job "+id+" failed")
	for _, e := range p.trail() {
		require.NotContains(t, e.Reason, "SECRET", "the trail quotes no content of a request")
	}
}

// TestNothingHappensWithoutAnEntry takes the audit trail away and requires that no act is done.
func TestNothingHappensWithoutAnEntry(t *testing.T) {
	const id = "202601020304050000003"
	p := running(t, id)
	p.file("d.csv", "id,x\n1,2\n")
	require.NoError(t, p.store.PutRunner(t.Context(), store.Runner{RunnerID: "r", NodeID: guest, Slots: 1}))
	p.engine.takeSignals()
	started := p.engine.started()
	asked := p.answering(host, 200, `{"code":0,"msg":"success","data":{}}`)
	p.breakTrail()

	for _, c := range []call{
		post(bfia.PathProviderRegister, vector(t, "provider_register.request.json")),
		post(bfia.PathProviderDelete, map[string]any{"version": "1.0.0", "force": true}),
		post(bfia.PathDataUpload, map[string]any{"file": "d.csv", "namespace": "n", "name": "new"}),
		post(bfia.PathDataDelete, map[string]any{"namespace": "testspace", "name": "test_guest"}),
		get(bfia.PathDataDownload + "?namespace=testspace&name=test_guest"),
		post(bfia.PathRunnerDrain, map[string]any{"runner_id": "r", "draining": true}),
		post(bfia.PathPlatformCreateAll, job(t, "")),
		post(bfia.PathPlatformStopAll, map[string]any{"job_id": id}),
		post(bfia.PathPlatformPriority, map[string]any{"job_id": id, "priority": 2}),
		post(bfia.PathPlatformAudit, bfia.Audit{JobID: id, Status: bfia.JobReady}),
		get(bfia.PathJobOutputs + "?job_id=" + id),
		get(bfia.PathAuditQuery),
		post(bfia.PathCreateAll, job(t, "202601020304050000004")).from(guest),
		post(bfia.PathCreate, job(t, "202601020304050000004")).from(guest),
		post(bfia.PathStart, map[string]any{"job_id": id}).from(guest),
		post(bfia.PathStop, map[string]any{"job_id": id}).from(guest),
		post(bfia.PathStopAll, map[string]any{"job_id": id}).from(guest),
	} {
		r := p.send(c)
		require.NotEqual(t, bfia.CodeOK, r.Code, "%s %s: %s", c.method, c.path, r.Body)
	}

	require.Empty(t, p.engine.takeSignals())
	require.Equal(t, started, p.engine.started())
	require.Empty(t, asked())
	_, err := p.store.DataTable(t.Context(), "testspace", "test_guest")
	require.NoError(t, err, "it was not deleted")
	_, err = p.store.DataTable(t.Context(), "n", "new")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	runners, err := p.store.Runners(t.Context(), time.Hour)
	require.NoError(t, err)
	require.False(t, runners[0].Draining)
	providers, err := p.store.Providers(t.Context(), store.ProviderFilter{})
	require.NoError(t, err)
	require.NotEmpty(t, providers)
}

// request sends a request without a body and returns the status of the answer.
func (p *party) request(method, path string) int {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.address+path, nil)
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	require.NoError(p.t, resp.Body.Close())
	return resp.StatusCode
}

// breakTrail makes every entry fail.
func (p *party) breakTrail() {
	p.t.Helper()
	db, err := sql.Open(
		"sqlite",
		"file:"+strings.TrimPrefix(p.database, "sqlite://")+"?_pragma=busy_timeout(10000)",
	)
	require.NoError(p.t, err)
	defer func() { require.NoError(p.t, db.Close()) }()
	_, err = db.Exec("DROP TABLE t_audit_head")
	require.NoError(p.t, err)
}

// recorder returns a recorder that has counted nothing.
func (p *party) recorder() *audit.Recorder {
	r := audit.NewRecorder(p.store, p.server.logger)
	p.t.Cleanup(func() { require.NoError(p.t, r.Close(context.Background())) })
	return r
}

func TestRefusalsAreRecorded(t *testing.T) {
	viewer := identity.Principal{
		Kind:       identity.KindClient,
		Name:       "vera",
		Roles:      []identity.Role{identity.Viewer},
		Proof:      identity.ByToken,
		Credential: "t7",
		Address:    "192.0.2.9",
	}
	caller := viewer
	var refusal error
	p := newParty(t, func(c *Config) {
		c.Clients = func(*fiber.Ctx) (identity.Principal, error) { return caller, refusal }
	})
	for _, r := range p.server.routes() {
		if r.access.kind != identity.KindClient || r.access.check(viewer) == nil {
			continue
		}
		act := acts[r.method+" "+r.path]
		if act == "" {
			act = r.method + " " + r.path
		}
		p.server.refusals = p.recorder() // this caller may be refused more often in this test
		before := len(p.trail())
		require.Equal(t, http.StatusForbidden, p.request(r.method, r.path), r.path)
		added := p.trail()[before:]
		require.Len(t, added, 1)
		require.Equal(t, act, added[0].Act)
		require.Equal(t, audit.Refused, added[0].Outcome)
		require.Equal(t, "vera", added[0].Name)
		require.Equal(t, "t7", added[0].Credential)
		require.Contains(t, added[0].Reason, "lacks the role")
	}

	p.server.refusals = p.recorder()
	caller, refusal = identity.Principal{}, bfia.Errorf(bfia.CodeUnauthenticated, "the token is not known")
	require.Equal(t, http.StatusUnauthorized, p.request(http.MethodGet, bfia.PathJobShow))
	added := p.trail()[len(p.trail())-1:]
	require.Equal(t, "GET "+bfia.PathJobShow, added[0].Act)
	require.Equal(t, "127.0.0.1", added[0].Address)
	require.Equal(t, identity.KindAnonymous, added[0].Kind)

	// A flood is counted, not written.
	before := len(p.trail())
	for range 100 {
		p.request(http.MethodGet, bfia.PathJobShow)
	}
	require.Equal(t, audit.PerPrincipal-1, len(p.trail())-before)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, p.server.Shutdown(ctx))
	last := p.trail()[len(p.trail())-1]
	require.Equal(t, audit.Refusals, last.Act)
	require.EqualValues(t, 101-audit.PerPrincipal, last.Count)
}

func TestTrailQuery(t *testing.T) {
	p := newParty(t)
	for _, act := range []string{audit.Submit, audit.Stop} {
		require.NoError(
			t,
			p.store.AppendAudit(t.Context(), audit.New(identity.Principal{Kind: identity.KindClient,
				Name: "alice"}, act, audit.Object{Kind: audit.Job, ID: "1"}, audit.Allowed, time.Now())),
		)
	}
	var page struct {
		Entries []audit.Entry
		Head    audit.Head
	}
	p.good(get(bfia.PathAuditQuery + "?order=asc&limit=2")).into(&page)
	require.Len(t, page.Entries, 2)
	require.EqualValues(t, 3, page.Head.Seq, "reading is an act too")
	var v audit.Verifier
	for _, e := range page.Entries {
		require.NoError(t, v.Add(e), "an entry verifies as it is sent")
	}
	p.good(get(bfia.PathAuditQuery + "?object=job:1&act=job.stop&principal=alice&outcome=allowed")).
		into(&page)
	require.Len(t, page.Entries, 1)
	for query, field := range map[string]string{"since=x": "since:", "outcome=x": "outcome:",
		"object=x:1": "object:",
		"order=x":    "order:", "limit=0": "limit:", "after=x": "after:"} {
		p.bad(get(bfia.PathAuditQuery+"?"+query), 400, bfia.CodeBadRequest, field)
	}
}

// TestTrailArchive archives the oldest entries of a party by its API.
func TestTrailArchive(t *testing.T) {
	var list []audit.Entry
	as := identity.Principal{Kind: identity.KindClient, Name: "ada", Roles: []identity.Role{identity.Admin}}
	p := newParty(t, func(c *Config) {
		c.Clients = func(*fiber.Ctx) (identity.Principal, error) { return as, nil }
	})
	for i := range 6 {
		at := time.Now().Add(-audit.MinArchiveAge - time.Hour)
		if i == 5 {
			at = at.Add(2 * time.Hour)
		}
		require.NoError(t, p.store.AppendAudit(t.Context(), audit.New(identity.Principal{
			Kind: identity.KindClient, Name: "alice"}, audit.Submit, audit.Object{Kind: audit.Job, ID: "1"},
			audit.Allowed, at)))
	}
	list = p.trail()
	to := func(i int) bfia.ArchiveTrail { return bfia.ArchiveTrail{Seq: list[i].Seq, Hash: list[i].Hash} }
	hash := list[0].Hash
	for text, c := range map[string]struct {
		body   bfia.ArchiveTrail
		status int
		code   bfia.Code
	}{
		"seq: must be the number":           {bfia.ArchiveTrail{Hash: hash}, 400, bfia.CodeBadRequest},
		"hash: must be the 64":              {bfia.ArchiveTrail{Seq: 2, Hash: "a"}, 400, bfia.CodeBadRequest},
		"seq: the audit trail has no":       {bfia.ArchiveTrail{Seq: 99, Hash: hash}, 404, bfia.CodeNotFound},
		"hash: entry 2":                     {bfia.ArchiveTrail{Seq: 2, Hash: hash}, 409, bfia.CodeConflict},
		"an entry stays for 30 days before": {to(5), 409, bfia.CodeConflict},
	} {
		p.bad(post(bfia.PathAuditArchive, c.body), c.status, c.code, text)
	}
	before := p.trail()
	require.Equal(t, list, before[:len(list)], "nothing is removed")

	var page struct {
		Entries []audit.Entry
		Head    audit.Head
		Base    *audit.Base
	}
	p.good(get(bfia.PathAuditQuery + "?order=asc&limit=1")).into(&page)
	require.Nil(t, page.Base)
	require.EqualValues(t, 1, page.Entries[0].Seq)

	as.Roles = []identity.Role{identity.Auditor}
	p.bad(post(bfia.PathAuditArchive, to(2)), 403, bfia.CodeForbidden, "lacks the role admin")
	as.Roles = []identity.Role{identity.Admin}
	var answer struct {
		Base audit.Base
		Left int64
	}
	body := to(2)
	body.Hash = strings.ToUpper(body.Hash)
	p.good(post(bfia.PathAuditArchive, body)).into(&answer)
	base := audit.Base{Head: audit.Head{Seq: 3, Hash: list[2].Hash}, Time: list[2].Time}
	require.Equal(t, base, answer.Base)
	require.Zero(t, answer.Left)
	after := p.trail()
	require.EqualValues(t, 4, after[0].Seq)
	record := after[len(after)-1]
	require.Equal(t, "ada", record.Name)
	require.Equal(t, audit.ArchiveTrail, record.Act)
	require.Equal(t, base.Object(), record.Object)
	require.NotEmpty(t, record.Digest)

	p.good(post(bfia.PathAuditArchive, to(2))).into(&answer)
	require.Equal(t, base, answer.Base)
	require.Equal(t, after, p.trail(), "repeated, it changes nothing")
	p.bad(post(bfia.PathAuditArchive, to(1)), 409, bfia.CodeConflict, "entry 2 was archived before")

	p.good(get(bfia.PathAuditQuery + "?order=asc&limit=1")).into(&page)
	require.Equal(t, &base, page.Base)
	require.EqualValues(t, 4, page.Entries[0].Seq)
}
