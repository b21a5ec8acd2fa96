package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/store"
)

// rolesHeader names the roles of a request's client in these tests.
const rolesHeader = "roles"

// clientByHeader is a client with the roles that a header names, or an administrator.
func clientByHeader(c *fiber.Ctx) (identity.Principal, error) {
	p := identity.Principal{Kind: identity.KindClient, Name: "admin", Proof: identity.ByToken,
		Credential: "t-1",
		Roles:      []identity.Role{identity.Admin}}
	if text := c.Get(rolesHeader); text != "" {
		var err error
		p.Name, p.Credential = text, "t-"+text
		p.Roles, err = identity.ParseRoles(text)
		return p, err
	}
	return p, nil
}

// rolesIn returns all roles that a client may have in one project, in some projects.
func rolesIn(projects ...string) string {
	var roles []string
	for _, project := range projects {
		for _, role := range identity.Roles() {
			if role.In(project).Check() == nil {
				roles = append(roles, string(role.In(project)))
			}
		}
	}
	return strings.Join(roles, ",")
}

const (
	secretDataset = "secretspace#secret_guest" // of project b
	secretWord    = "secret"                   // in all that belongs to project b
	secretJob     = "secretjob"
)

// secretIDs are the ids of things of project b, by the parameters of requests. The others are unknown to the
// party.
type namedThings struct{ job, task, taskName, model, namespace, name, output, upload, rule, periodic string }

func secretThings(p *party) namedThings {
	upload, err := p.store.DataTable(p.t.Context(), "secretspace", "secret_guest")
	require.NoError(p.t, err)
	return namedThings{job: secretJob, task: "secrettask", taskName: second, model: secretJob + ":" + second,
		namespace: "secretspace", name: "secret_guest", output: "secrettask", upload: upload.Generation,
		rule: "secretrule", periodic: "secretnightly"}
}

func unknownThings() namedThings {
	return namedThings{job: "unknownjo", task: "unknowntas", taskName: second, model: "unknownjo:" + second,
		namespace: "unknownspac", name: "unknown_gues", output: "unknowntas", upload: "0123456789abcdef",
		rule: "unknownrul", periodic: "unknownnightl"}
}

// withProjects returns a party with the projects a and b. All that b has contains the word secret: a dataset,
// and a job with tasks, logs, outputs, a model, an account and a note.
func withProjects(t *testing.T, change ...func(*Config)) *party {
	t.Helper()
	p := newParty(t, append([]func(*Config){func(c *Config) { c.Clients = clientByHeader }}, change...)...)
	p.withProvider()
	for _, name := range []string{"a", "b"} {
		p.good(post(bfia.PathProjectCreate, bfia.SetProject{Name: name}))
	}
	p.upload(rolesIn("b"), "secretspace", "secret_guest", "")
	p.upload(rolesIn("b"), "secretspace", "secret_host", "")
	p.upload(rolesIn("a"), "testspace", "test_guest", "")
	p.upload(rolesIn("a"), "testspace", "test_host", "")
	p.good(p.submitCall(rolesIn("b"), secretDocument(t, secretJob), ""))
	p.good(post(bfia.PathCreate, secretDocument(t, secretJob)))
	for task, id := range map[string]string{first: "secrettask0", second: "secrettask"} {
		started, err := p.store.StartTask(t.Context(), secretJob, task, id, 1, time.Now())
		require.NoError(t, err)
		for _, part := range started {
			require.NoError(t, p.store.SetTaskContainer(t.Context(), part.Key(), 1, "runner",
				"secret-"+part.Role+id, "id-"+part.Role+id))
		}
	}
	p.putLog("secret-guestsecrettask", 0, "2026-11-23T04:00:06Z ERROR secret")
	part := bfia.Part{Role: "guest", NodeID: guest}
	at := bfia.OutputAddress("secrettask", part, bfia.Port{Type: "model", Key: "model0"})
	require.NoError(t, p.blobs.Put(t.Context(), at.Namespace+"/"+at.Name+"/data_0",
		strings.NewReader(`{"secret": 1}`)))
	require.NoError(t, activities.RecordOutputs(t.Context(), p.store, p.blobs, activities.PartRequest{
		Key: activities.TaskKey{JobID: secretJob, Task: second, Role: "guest"}, Part: part,
		TaskID: "secrettask"}, time.Now()))
	require.NoError(t, p.store.RecordUsage(t.Context(), store.Usage{JobID: secretJob, Name: second,
		Role: "guest", Attempt: 1, TaskID: "secrettask", RunnerID: "secret", StartedAt: new(time.Now())}))
	require.NoError(t, p.store.PutJobNote(t.Context(), secretJob, "secret"))
	require.NoError(t, p.store.AddPeriodicJob(t.Context(), store.PeriodicJob{PeriodicID: "secretid",
		Name: "secretnightly", Project: "b", Recurrence: bfia.Recurrence{Cron: "@daily"}},
		store.PeriodicDocument{Document: []byte(secretDocument(t, "")),
			Owner: store.PeriodicOwner{Name: rolesIn("b")}}))
	_, err := p.store.AddApprovalRule(t.Context(), bfia.ApprovalRule{ID: "secretrule", Project: "b",
		Scope: bfia.ApprovalScope{Parties: []string{}, Uses: []bfia.ApprovalUse{},
			Learns: []bfia.ApprovalLearned{}}, Note: "secret", Until: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	return p
}

func secretDocument(t *testing.T, id string) string {
	return job(t, id, "testspace#test_guest", secretDataset, "testspace#test_host", "secretspace#secret_host")
}

// upload uploads a dataset as a client.
func (p *party) upload(roles, namespace, name, project string) {
	p.t.Helper()
	p.good(uploadCall(p.t, roles, namespace, name, project))
}

func uploadCall(t testing.TB, roles, namespace, name, project string) call {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for field, value := range map[string]string{"namespace": namespace, "name": name, "project": project} {
		if value != "" {
			require.NoError(t, form.WriteField(field, value))
		}
	}
	file, err := form.CreateFormFile("file", "rows.csv")
	require.NoError(t, err)
	_, err = io.WriteString(file, "id,y,x0\n1,0,0.5\n2,1,0.25\n")
	require.NoError(t, err)
	require.NoError(t, form.Close())
	return post(bfia.PathDataFile, body.Bytes()).with("Content-Type", form.FormDataContentType()).as(roles)
}

// as makes a call that of a client with roles.
func (c call) as(roles string) call { return c.with(rolesHeader, roles) }

// submitCall submits a document as a client.
func (p *party) submitCall(roles, document, project string) call {
	path := bfia.PathPlatformCreateAll
	if project != "" {
		path += "?project=" + project
	}
	return post(path, document).as(roles)
}

// TestWholePartyRoutes checks that a client with roles in single projects is refused wherever an endpoint is
// about the whole party: also by an endpoint that nobody has classed.
func TestWholePartyRoutes(t *testing.T) {
	p := withProjects(t)
	for _, r := range p.server.routes() {
		if r.access.projects || r.access.everybody || len(r.access.roles) == 0 ||
			r.access.kind != identity.KindClient {
			continue
		}
		roles := rolesIn("a", "b", identity.DefaultProject)
		got := p.send(p.attackCall(t, r, attack{}, namedThings{}).as(roles))
		require.Equal(t, bfia.CodeForbidden, got.Code, "%s %s: %s", r.method, r.path, got.Body)
	}
}

// TestNamesOfOtherProjects checks that names are those of the whole party: what another project has can't be
// replaced, and the refusal says only that the name is taken.
func TestNamesOfOtherProjects(t *testing.T) {
	p := withProjects(t)
	p.endJob(secretJob)
	state := p.stateOfSecrets()
	archive := p.good(get(bfia.PathModelExport + "?model=" + secretJob + ":" + second)).Body
	tried := map[string]bool{}
	refuse := func(c call) {
		t.Helper()
		tried[c.method+" "+c.path] = true
		got := p.send(c.as(rolesIn("a")))
		require.Equal(t, bfia.CodeConflict, got.Code, "%s: %s", c.path, got.Body)
		require.NotContains(t, string(got.Body), `"b"`)
		require.NotContains(t, string(got.Body), "project")
		require.Equal(t, state, p.stateOfSecrets())
	}
	upload := uploadCall(t, rolesIn("a"), "secretspace", "secret_guest", "")
	refuse(upload)
	upload = uploadCall(t, rolesIn("a"), "secretspace", "secret_guest", "")
	upload.path = bfia.PathComponentFile
	refuse(upload)
	refuse(post(bfia.PathModelImport, archive).with("Content-Type", "application/zip"))
	refuse(post(bfia.PathPeriodicAdd, map[string]any{"name": "secretnightly", "cron": "@daily",
		"document": json.RawMessage(job(t, ""))}))
	for _, path := range []string{bfia.PathPlatformCreateAll, bfia.PathV2CreateAll} {
		refuse(post(path, job(t, secretJob)))
		// Its session would be one that containers of secretjob may use.
		refuse(post(path, job(t, secretJob+"_1")))
	}
	for key, list := range attacks {
		conflicts := slices.ContainsFunc(list, func(a attack) bool { return a.conflicts })
		require.Equal(t, conflicts, tried[key], key)
	}
	entries, err := p.store.AuditOfJob(t.Context(), secretJob)
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, e.Name == rolesIn("a") && e.Outcome == audit.Allowed, "%+v", e)
	}

	// The same document under the same id is no way in either.
	p.bad(p.submitCall(rolesIn("a"), secretDocument(t, secretJob), ""), 404, bfia.CodeNotFound,
		"has no dataset")
	require.Equal(t, state, p.stateOfSecrets())

	// A removed job leaves its account, and its id stays with its project.
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), secretJob, bfia.JobFinished, "", time.Now()))
	p.good(post(bfia.PathJobDelete, bfia.JobRef{JobID: secretJob}).as(rolesIn("b")))
	p.bad(p.submitCall(rolesIn("a"), job(t, secretJob), ""), 409, bfia.CodeConflict)
	p.bad(get(bfia.PathJobAccount+"?job_id="+secretJob).as(rolesIn("a")), 404, bfia.CodeNotFound)
	usages, err := p.store.Usages(store.WithProjects(t.Context(), "b"), secretJob)
	require.NoError(t, err)
	require.Len(t, usages, 1)
}

// TestImportBeforeTraining imports a model under the id of a job of another project that has no model yet. It
// would be the importer's when the job trains it.
func TestImportBeforeTraining(t *testing.T) {
	p := withProjects(t)
	p.endJob(secretJob)
	archive := p.good(get(bfia.PathModelExport + "?model=" + secretJob + ":" + second)).Body
	p.good(post(bfia.PathModelDelete, map[string]any{"model": secretJob + ":" + second}))
	importing := post(bfia.PathModelImport, archive).with("Content-Type", "application/zip")
	for _, roles := range []string{rolesIn("a"), rolesIn(identity.DefaultProject)} {
		p.bad(importing.as(roles), 409, bfia.CodeConflict, "the name is in use")
	}
	p.good(importing) // by an administrator, who names no project
	var models []bfia.ModelView
	p.good(get(bfia.PathModelQuery).as(rolesIn("b"))).into(&models)
	require.Len(t, models, 1)
	require.Equal(t, "b", models[0].Project)
}

// TestKnownJobAndOtherProject submits a known job again, under the name of whose dataset another project has
// uploaded one meanwhile. The job keeps what it read, so that is no new job.
func TestKnownJobAndOtherProject(t *testing.T) {
	p := withProjects(t)
	submit := p.submitCall(rolesIn("a"), job(t, "ours"), "")
	p.good(submit)
	p.good(post(bfia.PathCreate, job(t, "ours")))
	p.endJob("ours")
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "ours", bfia.JobFinished, "", time.Now()))
	p.good(post(bfia.PathDataDelete, bfia.Address{Namespace: "testspace", Name: "test_guest"}).
		as(rolesIn("a")))
	p.upload(rolesIn("b"), "testspace", "test_guest", "")
	p.good(submit)
	p.bad(p.submitCall(rolesIn("a"), job(t, "new"), ""), 404, bfia.CodeNotFound, "has no dataset")
}

// TestPartnerDataOfProjects checks that suggestions of partners' datasets come only from jobs of the client's
// projects.
func TestPartnerDataOfProjects(t *testing.T) {
	p := withProjects(t)
	body := edited(t, "suggests", []string{"JG0110017800000000"}, "config", "role", "host")
	body = strings.ReplaceAll(body, "testspace#test_guest", secretDataset)
	p.good(post(bfia.PathCreate, strings.ReplaceAll(body, "testspace#test_host", "secretshop#orders")).
		from(guest))
	of := func(roles string) (datasets []string) {
		var list []bfia.PartnerData
		p.good(get(bfia.PathDataPartners).as(roles)).into(&list)
		for _, d := range list {
			datasets = append(datasets, d.Dataset)
		}
		return datasets
	}
	require.Equal(t, []string{"secretshop#orders"}, of(rolesIn("b")))
	require.Empty(t, of(rolesIn("a")))
	require.Empty(t, of(rolesIn(identity.DefaultProject)))
	require.Equal(t, []string{"secretshop#orders"}, of("viewer"))
}

// TestProjectOfSubmission checks to which project a client's job and dataset belong.
func TestProjectOfSubmission(t *testing.T) {
	p := withProjects(t)
	p.good(p.submitCall(rolesIn("a"), job(t, "j1"), ""))
	p.bad(p.submitCall(rolesIn("a", "b"), job(t, "j2"), ""), 400, bfia.CodeBadRequest, "project: is required",
		"a, b")
	p.good(p.submitCall(rolesIn("a", "b"), job(t, "j2"), "a"))
	p.bad(p.submitCall(rolesIn("a"), job(t, "j3"), "b"), 404, bfia.CodeNotFound, `project: "b" is not known`)
	p.bad(p.submitCall(rolesIn("a"), job(t, "j3"), "none"), 404, bfia.CodeNotFound, `project: "none" is not known`)
	p.bad(p.submitCall("admin", job(t, "j3"), ""), 404, bfia.CodeNotFound, "belongs to the project a")
	p.good(p.submitCall("admin", job(t, "j3"), "a"))
	p.bad(p.submitCall("admin", job(t, "j1"), "b"), 404, bfia.CodeNotFound)

	p.bad(p.submitCall(rolesIn("b"), job(t, "j4", "testspace#test_guest", secretDataset), ""), 404,
		bfia.CodeNotFound, "config.task_params.host.0", "has no dataset")
	p.bad(uploadCall(t, rolesIn("a", "b"), "n", "x", ""), 400, bfia.CodeBadRequest, "project: is required")
	p.bad(uploadCall(t, rolesIn("a"), "n", "x", "b"), 404, bfia.CodeNotFound, `project: "b" is not known`)
	p.upload(rolesIn("a", "b"), "n", "x", "b")
	p.upload("admin", "n", "x", "") // it stays where it is
	table, err := p.store.DataTable(t.Context(), "n", "x")
	require.NoError(t, err)
	require.Equal(t, "b", table.Project)
	p.bad(uploadCall(t, "admin", "n", "x", "a"), 409, bfia.CodeConflict, "the name n#x is in use")

	var jobs bfia.JobList
	p.good(get(bfia.PathPlatformJobList + "?project=b")).into(&jobs)
	require.Len(t, jobs.Jobs, 1)
	require.Equal(t, "b", jobs.Jobs[0].Project)
	p.good(get(bfia.PathPlatformJobList).as(rolesIn("b"))).into(&jobs)
	require.Len(t, jobs.Jobs, 1)
	p.bad(get(bfia.PathPlatformJobList+"?project=b").as(rolesIn("a")), 404, bfia.CodeNotFound)
}

// TestProjectOfPartnersJob checks that a job of a partner belongs to the project of what it reads here, and
// that it reads things of one project only. The refusal names the datasets and no project.
func TestProjectOfPartnersJob(t *testing.T) {
	p := withProjects(t)
	p.good(post(bfia.PathCreate, secretDocument(t, "theirs")).from(host))
	project, recorded, err := p.store.JobProject(t.Context(), "theirs")
	require.NoError(t, err)
	require.True(t, recorded)
	require.Equal(t, "b", project)
	p.bad(get(bfia.PathPlatformStatusAll+"?job_id=theirs").as(rolesIn("a")), 404, bfia.CodeNotFound)
	status := p.good(get(bfia.PathPlatformStatusAll + "?job_id=theirs").as(rolesIn("b")))
	require.Contains(t, string(status.Body), `"project":"b"`)
	status = p.good(get(bfia.PathJobDocument + "?job_id=theirs").as(rolesIn("b")))
	require.NotContains(t, string(status.Body), `"project"`)

	mixed := job(t, "mixed", "testspace#test_guest", secretDataset)
	got := p.bad(post(bfia.PathCreate, mixed).from(host), 200, bfia.CodeForbidden, secretDataset,
		"testspace#test_host", "config.task_params.guest.0", "config.task_params.host.0")
	require.NotContains(t, got.Text(), "project b")
}

// TestEventsOfProjects checks that a client reads the events of its projects' jobs only.
func TestEventsOfProjects(t *testing.T) {
	p := withProjects(t)
	p.good(p.submitCall(rolesIn("a"), job(t, "ours"), ""))
	for roles, want := range map[string]map[string]bool{
		rolesIn("a"): {"ours": true, secretJob: false, "": true},
		rolesIn("b"): {"ours": false, secretJob: true, "": true},
		"admin":      {"ours": true, secretJob: true, "": true},
	} {
		list, err := identity.ParseRoles(roles)
		require.NoError(t, err)
		caller := identity.Principal{Kind: identity.KindClient, Roles: list}
		sees := p.server.seesEvent(memberWith(identity.Viewer).scope(t.Context(), caller), nil)
		for jobID, visible := range want {
			e := bfia.Event{Change: bfia.Change{Kind: bfia.ChangedJob, JobID: jobID}}
			require.Equal(t, visible, sees(e), "%s, job %q", roles, jobID)
			require.Equal(t, visible, p.server.events.format(e, sees) != "", "%s, job %q", roles, jobID)
		}
	}
}

// TestEventStreamOfProject reads the endpoint itself: events of jobs of other projects are not sent.
func TestEventStreamOfProject(t *testing.T) {
	p := withProjects(t, func(c *Config) {
		c.Clients = func(c *fiber.Ctx) (identity.Principal, error) {
			caller, err := clientByHeader(c)
			caller.Proof = identity.ByNothing // the stream of an unknown token ends
			return caller, err
		}
	})
	p.good(p.submitCall(rolesIn("a"), job(t, "ours"), ""))
	stream := listen(t, http.DefaultClient, "http://"+p.address, http.Header{rolesHeader: {rolesIn("a")}})
	e, more := stream.next()
	require.True(t, more)
	require.Equal(t, changedAll, e.Change)
	last := bfia.Change{Kind: bfia.ChangedJob, JobID: "ours"}
	p.server.events.publish([]bfia.Change{{Kind: bfia.ChangedJob, JobID: secretJob},
		{Kind: bfia.ChangedTask, JobID: "unknown"}, last})
	for {
		e, more := stream.next()
		require.True(t, more)
		require.NotContains(t, []string{secretJob, "unknown"}, e.JobID)
		if e.Change == last {
			return
		}
	}
}

// TestProjects creates, changes and removes projects.
func TestProjects(t *testing.T) {
	p := withProjects(t)
	p.bad(post(bfia.PathProjectCreate, bfia.SetProject{Name: "Risk"}), 400, bfia.CodeBadRequest, "name: ")
	p.bad(post(bfia.PathProjectCreate, bfia.SetProject{Name: "a"}), 409, bfia.CodeConflict, "exists already")
	p.bad(post(bfia.PathProjectCreate, bfia.SetProject{Name: identity.DefaultProject}), 409,
		bfia.CodeConflict)
	p.bad(post(bfia.PathProjectSet, bfia.SetProject{Name: "none"}), 404, bfia.CodeNotFound)
	p.bad(post(bfia.PathProjectRemove, bfia.ProjectRef{Name: "b"}), 409, bfia.CodeConflict,
		"2 datasets", "1 jobs", "1 periodic jobs")
	text := "Credit"
	p.good(post(bfia.PathProjectCreate, bfia.SetProject{Name: "c"}))
	p.good(post(bfia.PathProjectSet, bfia.SetProject{Name: "c", Description: &text}))
	names := func(roles string) (names []string) {
		var projects []bfia.Project
		p.good(get(bfia.PathProjectQuery).as(roles)).into(&projects)
		for _, project := range projects {
			names = append(names, project.Name+project.Description)
		}
		return names
	}
	require.Equal(t, []string{"default", "a", "b", "cCredit"}, names("viewer"))
	require.Equal(t, []string{"a"}, names("viewer@a"))
	p.good(post(bfia.PathProjectRemove, bfia.ProjectRef{Name: "c"}))
	p.bad(post(bfia.PathProjectCreate, bfia.SetProject{Name: "c"}), 409, bfia.CodeConflict, "was removed on")
	p.bad(uploadCall(t, rolesIn("c"), "n", "x", ""), 404, bfia.CodeNotFound, `project: "c" is not known`)
}

// TestPeriodicJobOfProject checks that the jobs of a periodic job belong to its project, and that they are
// submitted only while the owner has the role operator there.
func TestPeriodicJobOfProject(t *testing.T) {
	roles := rolesIn("a")
	p := withProjects(t, func(c *Config) {
		c.Recheck = func(_ context.Context, p identity.Principal, _ time.Time) (identity.Principal, error) {
			var err error
			p.Roles, err = identity.ParseRoles(roles)
			return p, err
		}
	})
	add := post(bfia.PathPeriodicAdd, map[string]any{"name": "ours", "cron": "@daily",
		"document": json.RawMessage(job(t, ""))})
	p.bad(add.as(rolesIn("b")), 404, bfia.CodeNotFound, "has no dataset")
	p.bad(add.as(rolesIn("a", "b")), 400, bfia.CodeBadRequest, "project: is required")
	p.good(add.as(roles))
	var list []bfia.Periodic
	p.good(get(bfia.PathPeriodicQuery).as("viewer@a")).into(&list)
	require.Len(t, list, 1)
	require.Equal(t, "a", list[0].Project)
	p.bad(post(bfia.PathPeriodicChange, map[string]any{"name": "ours", "cron": "@daily", "project": "b"}).
		as("admin"), 409, bfia.CodeConflict, "stays in its project")

	row, err := p.store.PeriodicJobNamed(t.Context(), "ours")
	require.NoError(t, err)
	owner, err := p.store.PeriodicDocument(t.Context(), row.PeriodicID, 1)
	require.NoError(t, err)
	submit := func(id string) error {
		doc, err := bfia.ParseDocument([]byte(job(t, id)))
		require.NoError(t, err)
		return p.server.SubmitPeriodic(t.Context(), "ours", owner, doc)
	}
	require.NoError(t, submit("run1"))
	project, recorded, err := p.store.JobProject(t.Context(), "run1")
	require.NoError(t, err)
	require.True(t, recorded)
	require.Equal(t, "a", project)

	roles = rolesIn("b")
	err = submit("run2")
	require.Equal(t, bfia.CodeForbidden, bfia.CodeOf(err))
	require.ErrorContains(t, err, "lacks the role operator in the project a")
}

// TestStorageQuotaOfProject checks that a project whose quota of storage is used up takes no uploads and no
// jobs, and that its known jobs continue.
func TestStorageQuotaOfProject(t *testing.T) {
	p := withProjects(t)
	p.good(p.submitCall(rolesIn("a"), job(t, "known"), ""))
	p.good(post(bfia.PathCreate, job(t, "known")))
	p.good(post(bfia.PathProjectSet, bfia.SetProject{Name: "a",
		Quota: bfia.ProjectQuota{Storage: 1}.Change()}))
	const used = "the quota of storage at this party is used up"
	p.bad(uploadCall(t, rolesIn("a"), "testspace", "more", ""), 409, bfia.CodeConflict, used)
	p.bad(post(bfia.PathCreate, job(t, "new")).from(host), 200, bfia.CodeConflict, used)
	p.good(post(bfia.PathCreate, job(t, "known")))
	p.upload(rolesIn("b"), "secretspace", "more", "")
}
