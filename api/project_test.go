package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/fateflow/fateclient"
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
type namedThings struct{ job, task, taskName, model, namespace, name, output, upload string }

func secretThings(p *party) namedThings {
	upload, err := p.store.DataTable(p.t.Context(), "secretspace", "secret_guest")
	require.NoError(p.t, err)
	return namedThings{job: secretJob, task: "secrettask", taskName: second, model: secretJob + ":" + second,
		namespace: "secretspace", name: "secret_guest", output: "secrettask", upload: upload.Generation}
}

func unknownThings() namedThings {
	return namedThings{job: "unknownjo", task: "unknowntas", taskName: second, model: "unknownjo:" + second,
		namespace: "unknownspac", name: "unknown_gues", output: "unknowntas", upload: "0123456789abcdef"}
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
	p.good(p.submitting(rolesIn("b"), secretDocument(t, secretJob), ""))
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
	return p
}

func secretDocument(t *testing.T, id string) string {
	return job(t, id, "testspace#test_guest", secretDataset, "testspace#test_host", "secretspace#secret_host")
}

// upload uploads a dataset as a client.
func (p *party) upload(roles, namespace, name, project string) {
	p.t.Helper()
	p.good(uploading(p.t, roles, namespace, name, project))
}

func uploading(t testing.TB, roles, namespace, name, project string) call {
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

// submitting submits a document as a client.
func (p *party) submitting(roles, document, project string) call {
	path := bfia.PathPlatformCreateAll
	if project != "" {
		path += "?project=" + project
	}
	return post(path, document).as(roles)
}

// attack is a request about a thing. A route without one must be in notAttacked, with the reason.
type attack struct {
	query func(x namedThings) string
	body  func(t *testing.T, x namedThings) any
	// conflicts says that the name is one for the whole party, so that a client learns that it is taken.
	conflicts bool
	// quiet says that the answer is a success which must not contain the thing: a list or a count.
	quiet bool
}

func byQuery(format string, get func(namedThings) []any) attack {
	return attack{query: func(x namedThings) string { return fmt.Sprintf(format, get(x)...) }}
}

func ofJob(more string) attack {
	return byQuery("job_id=%s"+more, func(x namedThings) []any { return []any{x.job} })
}

func ofTask() attack {
	return byQuery("task_id=%s", func(x namedThings) []any { return []any{x.task} })
}

func ofModel() attack {
	return byQuery("model=%s", func(x namedThings) []any { return []any{x.model} })
}

func ofData(more string) attack {
	return byQuery("namespace=%s&name=%s"+more,
		func(x namedThings) []any { return []any{x.namespace, x.name} })
}

func ofPart() attack {
	return ofJob("&role=guest&party_id=" + guest + "&task_name=" + second)
}

func withBody(fields ...string) attack {
	return attack{body: func(_ *testing.T, x namedThings) any {
		values := map[string]any{"job_id": x.job, "task_name": x.taskName, "model": x.model,
			"namespace": x.namespace, "name": x.name, "status": "READY", "priority": 1, "notes": "mine"}
		body := map[string]any{}
		for _, f := range fields {
			body[f] = values[f]
		}
		return body
	}}
}

func list(query string) attack {
	return attack{quiet: true, query: func(namedThings) string { return query }}
}

// attacks has a request about a thing of another project for each route that lets clients of single projects
// in.
var attacks = map[string][]attack{
	"GET " + bfia.PathProviderQuery: {list("jobs=true")},
	"GET " + bfia.PathProjectQuery:  {list("")},
	"GET " + bfia.PathPartnerQuery:  {list("")},
	"GET " + bfia.PathRunnerQuery:   {list("")},
	"GET " + bfia.PathOverview:      {list("")},

	"GET " + bfia.PathDataQuery:        {list("jobs=true"), list("namespace=secretspace")},
	"GET " + bfia.PathDataDownload:     {ofData(""), ofData("&path=x"), ofOutput("")},
	"POST " + bfia.PathDataDelete:      {withBody("namespace", "name")},
	"POST " + bfia.PathDataFile:        {{conflicts: true}},
	"POST " + bfia.PathComponentFile:   {{conflicts: true}},
	"GET " + bfia.PathModelQuery:       {list(""), list("job_id=" + secretJob), ofModel()},
	"GET " + bfia.PathModelPrediction:  {ofModel()},
	"POST " + bfia.PathModelKeep:       {withBody("model")},
	"POST " + bfia.PathModelDelete:     {withBody("model")},
	"GET " + bfia.PathModelExport:      {ofModel()},
	"POST " + bfia.PathModelImport:     {{conflicts: true}},
	"POST " + bfia.PathJobDelete:       {withBody("job_id")},
	"GET " + bfia.PathPlatformJobList:  {list(""), list("prefix=secret"), list("text=secret")},
	"GET " + bfia.PathPlatformLogLines: {ofTask()},
	"GET " + bfia.PathPlatformLog:      {ofTask()},

	"POST " + bfia.PathPlatformCreateAll: {{body: reading}, {body: reusing}, {conflicts: true}},
	"POST " + bfia.PathV2CreateAll:       {{body: reading}, {body: reusing}, {conflicts: true}},
	"POST " + bfia.PathPlatformCheck:     {{body: reading}, {body: reusing}},
	"POST " + bfia.PathPlatformStopAll:   {withBody("job_id")},
	"POST " + bfia.PathPlatformStopTask:  {withBody("job_id", "task_name")},
	"POST " + bfia.PathPlatformAudit:     {withBody("job_id", "status")},
	"POST " + bfia.PathPlatformPriority:  {withBody("job_id", "priority")},
	"GET " + bfia.PathPlatformStatusAll:  {ofJob("")},
	"GET " + bfia.PathJobOutputs:         {ofJob("")},
	"GET " + bfia.PathJobShow:            {ofJob("")},
	"GET " + bfia.PathJobAccount:         {ofJob("")},
	"GET " + bfia.PathJobDocument:        {ofJob("")},
	"GET " + bfia.PathJobApproval:        {ofJob("")},

	"POST " + fateclient.PathJobSubmit:  {{body: reading}, {conflicts: true}},
	"POST " + fateclient.PathJobRerun:   {withBody("job_id")},
	"POST " + fateclient.PathJobStop:    {withBody("job_id")},
	"POST " + fateclient.PathJobClean:   {withBody("job_id")},
	"POST " + fateclient.PathQueueClean: {{quiet: true}},
	"POST " + fateclient.PathJobNotes:   {withBody("job_id", "notes")},
	"GET " + fateclient.PathJobQuery: {list(""), ofJob(""),
		byQuery("job_id=%s", func(x namedThings) []any { return []any{x.upload} })},
	"GET " + fateclient.PathJobList:       {list(""), list("job_id=secret")},
	"GET " + fateclient.PathJobDependency: {ofJob("")},
	"GET " + fateclient.PathJobData:       {ofJob("")},
	"GET " + fateclient.PathTaskQuery:     {ofJob(""), ofTask()},
	"GET " + fateclient.PathTaskList:      {list(""), list("job_id=" + secretJob)},
	"GET " + fateclient.PathMetricQuery:   {ofPart()}, "GET " + fateclient.PathMetricKeys: {ofPart()},
	"GET " + fateclient.PathModelQuery: {ofPart()}, "GET " + fateclient.PathModelDownload: {ofPart()},
	"GET " + fateclient.PathDataTable: {ofPart()}, "GET " + fateclient.PathDataDisplay: {ofPart()},
	"GET " + fateclient.PathDataDownload: {ofPart()},
	"GET " + fateclient.PathTableQuery:   {ofData(""), ofData("&display=true"), ofOutput("&display=true")},
	"POST " + fateclient.PathTableDelete: {withBody("namespace", "name")},
	"GET " + fateclient.PathLogQuery:     {ofJob("&log_type=task_info"), ofJob("&log_type=schedule_info")},
	"GET " + fateclient.PathLogCount:     {ofJob("&log_type=task_info")},
	"POST " + fateclient.PathJobLog:      {withBody("job_id")},
	"GET " + fateclient.PathSite:         {list("")}, "GET " + fateclient.PathServer: {list("")},
}

// notAttacked are the other routes for such clients.
var notAttacked = map[string]string{
	"GET " + bfia.PathEvents: "TestEventsOfProjects",
}

// ofOutput asks for an output of a task, which is no dataset.
func ofOutput(more string) attack {
	return byQuery("namespace=guest-"+guest+"-model-model0&name=%s"+more,
		func(x namedThings) []any { return []any{x.output} })
}

// reading is a job that reads a dataset.
func reading(t *testing.T, x namedThings) any {
	return job(t, "", "testspace#test_guest", x.namespace+"#"+x.name)
}

// reusing is a job that reuses the outputs of another one.
func reusing(t *testing.T, x namedThings) any {
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(job(t, "")), &doc))
	doc["old_job_id"] = x.job
	return doc
}

// TestOtherProject lets a client with all roles in one project try every route that lets such clients in on
// things of another project. The answers are those for things that do not exist, and change nothing.
func TestOtherProject(t *testing.T) {
	p := withProjects(t)
	p.good(p.submitting(rolesIn("a"), job(t, "ours"), ""))
	p.good(post(bfia.PathCreate, job(t, "ours")))
	state := p.stateOfSecrets()
	secret, unknown := secretThings(p), unknownThings()
	hide := func(x namedThings, answer string) string {
		for _, id := range []string{x.job, x.task, x.namespace, x.name, x.upload} {
			answer = strings.ReplaceAll(answer, id, "THING")
		}
		return answer
	}
	tried := map[string]bool{}
	for _, r := range p.server.routes() {
		key := r.method + " " + r.path
		if !r.access.projects || p.refusesFATE(r) {
			continue
		}
		tried[key] = true
		if notAttacked[key] != "" {
			continue
		}
		require.NotEmpty(t, attacks[key], "%s lets clients of single projects in: add it to attacks", key)
		for i, a := range attacks[key] {
			t.Run(fmt.Sprintf("%s %d", key, i), func(t *testing.T) {
				if a.conflicts {
					return // TestNamesOfOtherProjects
				}
				p.engine.takeSignals()
				got := p.attack(t, r, a, secret)
				require.NotEqual(t, http.StatusForbidden, got.Status, "%s", got.Body)
				if a.quiet {
					require.Equal(t, bfia.CodeOK, got.Code, "%s", got.Body)
					require.NotContains(t, string(got.Body), secretWord)
					return
				}
				want := p.attack(t, r, a, unknown)
				require.NotEqual(t, bfia.CodeOK, want.Code, "%s", want.Body)
				require.Equal(t, want.Status, got.Status, "%s", got.Body)
				require.Equal(t, hide(unknown, string(want.Body)), hide(secret, string(got.Body)))
				require.Empty(t, p.engine.takeSignals())
			})
		}
	}
	for key := range attacks {
		require.True(t, tried[key], "%s does not exist any more, or is for the whole party", key)
	}
	require.Equal(t, state, p.stateOfSecrets())
}

// TestOwnProject tries the same requests with a client of the project: each finds what it names. So the
// refusals of TestOtherProject are for the project, not for a mistake in a request.
func TestOwnProject(t *testing.T) {
	p := withProjects(t)
	secret, unknown := secretThings(p), unknownThings()
	for _, r := range p.server.routes() {
		key := r.method + " " + r.path
		for i, a := range attacks[key] {
			if a.conflicts || a.quiet || a.body != nil {
				continue // acts would change what others read
			}
			t.Run(fmt.Sprintf("%s %d", key, i), func(t *testing.T) {
				got := p.send(p.attacking(t, r, a, secret).as(rolesIn("b", "a")))
				want := p.send(p.attacking(t, r, a, unknown).as(rolesIn("b", "a")))
				require.NotEqual(t, want.Text()+string(want.Body), got.Text()+string(got.Body))
			})
		}
	}
}

func (p *party) attacking(t *testing.T, r route, a attack, x namedThings) call {
	c := call{method: r.method, path: r.path}
	if a.query != nil {
		c.path += "?" + a.query(x)
	}
	if a.body != nil {
		c.body = a.body(t, x)
	} else if r.method == http.MethodPost {
		c.body = "{}"
	}
	return c
}

// attack sends a request of a client of project a.
func (p *party) attack(t *testing.T, r route, a attack, x namedThings) *reply {
	return p.send(p.attacking(t, r, a, x).as(rolesIn("a")))
}

// refusesFATE returns whether a route is refused to all.
func (p *party) refusesFATE(r route) bool {
	for _, refusal := range fateclient.Refusals() {
		if refusal.Path == r.path {
			return true
		}
	}
	return false
}

// stateOfSecrets returns what project b has, as an administrator sees it.
func (p *party) stateOfSecrets() string {
	p.t.Helper()
	var text strings.Builder
	for _, path := range []string{bfia.PathPlatformStatusAll + "?job_id=" + secretJob,
		bfia.PathJobOutputs + "?job_id=" + secretJob,
		bfia.PathModelQuery + "?model=" + secretJob + ":" + second,
		bfia.PathDataQuery, bfia.PathPlatformJobList, bfia.PathProjectQuery} {
		text.Write(p.good(get(path)).Body)
	}
	notes, err := p.store.JobNotes(p.t.Context(), []string{secretJob})
	require.NoError(p.t, err)
	return text.String() + notes[secretJob]
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
		got := p.send(p.attacking(t, r, attack{}, namedThings{}).as(roles))
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
	refused := []call{uploading(t, rolesIn("a"), "secretspace", "secret_guest", "")}
	refused[0].path = bfia.PathComponentFile
	refused = append(refused, uploading(t, rolesIn("a"), "secretspace", "secret_guest", ""),
		post(bfia.PathModelImport, archive).with("Content-Type", "application/zip").as(rolesIn("a")))
	for _, path := range []string{bfia.PathPlatformCreateAll, bfia.PathV2CreateAll,
		fateclient.PathJobSubmit} {
		refused = append(refused, post(path, job(t, secretJob)).as(rolesIn("a")))
	}
	for _, c := range refused {
		got := p.send(c)
		require.NotEqual(t, bfia.CodeOK, got.Code, "%s: %s", c.path, got.Body)
		require.NotContains(t, string(got.Body), `"b"`)
		require.NotContains(t, string(got.Body), "project")
	}
	require.Equal(t, state, p.stateOfSecrets())

	// The same document under the same id is no way in either.
	p.bad(p.submitting(rolesIn("a"), secretDocument(t, secretJob), ""), 404, bfia.CodeNotFound,
		"has no dataset")
	require.Equal(t, state, p.stateOfSecrets())
}

// TestProjectOfSubmission checks to which project a client's job and dataset belong.
func TestProjectOfSubmission(t *testing.T) {
	p := withProjects(t)
	p.good(p.submitting(rolesIn("a"), job(t, "j1"), ""))
	p.bad(p.submitting(rolesIn("a", "b"), job(t, "j2"), ""), 400, bfia.CodeBadRequest, "project: is required",
		"a, b")
	p.good(p.submitting(rolesIn("a", "b"), job(t, "j2"), "a"))
	p.bad(p.submitting(rolesIn("a"), job(t, "j3"), "b"), 404, bfia.CodeNotFound, `project: "b" is not known`)
	p.bad(p.submitting(rolesIn("a"), job(t, "j3"), "none"), 404, bfia.CodeNotFound, `project: "none" is not known`)
	p.bad(p.submitting("admin", job(t, "j3"), ""), 404, bfia.CodeNotFound, "belongs to the project a")
	p.good(p.submitting("admin", job(t, "j3"), "a"))
	p.bad(p.submitting("admin", job(t, "j1"), "b"), 404, bfia.CodeNotFound)

	p.bad(p.submitting(rolesIn("b"), job(t, "j4", "testspace#test_guest", secretDataset), ""), 404,
		bfia.CodeNotFound, "config.task_params.host.0", "has no dataset")
	p.bad(uploading(t, rolesIn("a", "b"), "n", "x", ""), 400, bfia.CodeBadRequest, "project: is required")
	p.bad(uploading(t, rolesIn("a"), "n", "x", "b"), 404, bfia.CodeNotFound, `project: "b" is not known`)
	p.upload(rolesIn("a", "b"), "n", "x", "b")
	p.upload("admin", "n", "x", "") // it stays where it is
	table, err := p.store.DataTable(t.Context(), "n", "x")
	require.NoError(t, err)
	require.Equal(t, "b", table.Project)
	p.bad(uploading(t, "admin", "n", "x", "a"), 409, bfia.CodeConflict, "the name n#x is in use")

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
	p.good(p.submitting(rolesIn("a"), job(t, "ours"), ""))
	for roles, want := range map[string]map[string]bool{
		rolesIn("a"): {"ours": true, secretJob: false, "": true},
		rolesIn("b"): {"ours": false, secretJob: true, "": true},
		"admin":      {"ours": true, secretJob: true, "": true},
	} {
		list, err := identity.ParseRoles(roles)
		require.NoError(t, err)
		caller := identity.Principal{Kind: identity.KindClient, Roles: list}
		sees := p.server.seesEvent(memberWith(identity.Viewer).scope(t.Context(), caller))
		for jobID, visible := range want {
			e := bfia.Event{Change: bfia.Change{Kind: bfia.ChangedJob, JobID: jobID}}
			require.Equal(t, visible, sees(e), "%s, job %q", roles, jobID)
			require.Equal(t, visible, p.server.events.format(e, sees) != "", "%s, job %q", roles, jobID)
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
		"2 datasets", "1 jobs")
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
	p.bad(uploading(t, rolesIn("c"), "n", "x", ""), 404, bfia.CodeNotFound, `project: "c" is not known`)
}
