package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow/fateclient"
	"hutong/internal/identity"
	"hutong/store"
)

// attack is a request about a thing. A route without one must be in notAttacked, with the reason.
type attack struct {
	query func(x namedThings) string
	body  func(t *testing.T, x namedThings) any
	// conflicts says that the name is one for the whole party, so that a client learns that it is taken.
	conflicts bool
	// quiet says that the answer is a success which must not contain the thing: a list or a count. It
	// contains it for a client of the project, unless shared says why not.
	quiet  bool
	shared string
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

// ofAttempt asks for the log of one attempt of a part.
func ofAttempt() attack {
	return byQuery("task_id=%s&role=guest&attempt=1", func(x namedThings) []any { return []any{x.task} })
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
			"namespace": x.namespace, "name": x.name, "rule_id": x.rule, "status": "READY",
			"priority": 1, "notes": "mine"}
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

// shared is a list that has nothing of a project.
func shared(why string) attack {
	a := list("")
	a.shared = why
	return a
}

// attacks has a request about a thing of another project for each route that lets clients of single projects
// in.
var attacks = map[string][]attack{
	"GET " + bfia.PathProviderQuery: {list("jobs=true")},
	"GET " + bfia.PathProjectQuery:  {shared("it lists the projects: TestProjects")},
	"GET " + bfia.PathPartnerQuery:  {shared("all projects have the same partners")},
	"GET " + bfia.PathRunnerQuery:   {shared("all projects have the same runners")},
	"GET " + bfia.PathOverview:      {list("")},

	"GET " + bfia.PathDataQuery:        {list("jobs=true"), list("namespace=secretspace")},
	"GET " + bfia.PathDataPartners:     {list(""), list("node_id=" + host)},
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
	"GET " + bfia.PathPlatformLogLines: {ofTask(), ofAttempt()},
	"GET " + bfia.PathPlatformLog:      {ofTask(), ofAttempt()},

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

	"GET " + bfia.PathPeriodicQuery: {list(""),
		byQuery("name=%s", func(x namedThings) []any { return []any{x.periodic} })},
	"POST " + bfia.PathPeriodicAdd:    {{body: addingPeriodic}, {conflicts: true}},
	"POST " + bfia.PathPeriodicChange: {ofPeriodic()},
	"POST " + bfia.PathPeriodicPause:  {ofPeriodic()},
	"POST " + bfia.PathPeriodicResume: {ofPeriodic()},
	"POST " + bfia.PathPeriodicRun:    {ofPeriodic()},
	"POST " + bfia.PathPeriodicDelete: {ofPeriodic()},

	"POST " + bfia.PathApprovalRuleAdd: {{body: func(_ *testing.T, x namedThings) any {
		return map[string]any{"job_id": x.job, "until": time.Now().Add(time.Hour),
			"scope": bfia.ApprovalScope{Initiator: host, Scheduler: host, FlowID: "f",
				Parties: []string{host},
				Uses: []bfia.ApprovalUse{{Role: "guest.0", Provider: "p", Version: "1", Component: "c",
					Images: []string{"docker sha256:1"}, Dataset: secretDataset, Columns: []string{"id"}}},
				Learns: []bfia.ApprovalLearned{}}}
	}}},
	"GET " + bfia.PathApprovalRuleQuery:   {list("")},
	"POST " + bfia.PathApprovalRuleRemove: {withBody("rule_id")},

	"POST " + fateclient.PathJobSubmit:  {{body: readingOfFATE}},
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
	"GET " + fateclient.PathSite:         {shared("it names the party")},
	"GET " + fateclient.PathServer:       {shared("it names the party's addresses")},
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

// ofPeriodic acts on a periodic job.
func ofPeriodic() attack {
	return attack{body: func(_ *testing.T, x namedThings) any {
		return map[string]any{"name": x.periodic, "cron": "@daily"}
	}}
}

// addingPeriodic adds a periodic job that reads a dataset.
func addingPeriodic(t *testing.T, x namedThings) any {
	return map[string]any{"name": "new", "cron": "@daily",
		"document": json.RawMessage(job(t, "", "testspace#test_guest", x.namespace+"#"+x.name))}
}

// readingOfFATE is such a job as FATE's pipeline submits it.
func readingOfFATE(t *testing.T, x namedThings) any {
	require.Contains(t, fateDAG, `"namespace": "testspace", "name": "test_guest"`)
	return strings.Replace(fateDAG, `"namespace": "testspace", "name": "test_guest"`,
		fmt.Sprintf(`"namespace": %q, "name": %q`, x.namespace, x.name), 1)
}

// reusing is a job that reuses the outputs of another one.
func reusing(t *testing.T, x namedThings) any {
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(job(t, "")), &doc))
	doc["old_job_id"] = x.job
	return doc
}

// TestOtherProject lets clients with all roles in one project, also in default, try every route that lets
// such clients in on things of another project. The answers are those for things that do not exist, and
// change nothing.
func TestOtherProject(t *testing.T) {
	for _, project := range []string{"a", identity.DefaultProject} {
		t.Run(project, func(t *testing.T) { attackFrom(t, project) })
	}
	t.Run("datasets are not checked", func(t *testing.T) {
		attackFrom(t, identity.DefaultProject, func(c *Config) { c.CheckDatasets = false })
	})
}

// withMoreSecrets returns a party as withProjects does, with what further lists show: a job of b that has
// failed, and one that reads data of a partner.
func withMoreSecrets(t *testing.T, change ...func(*Config)) *party {
	t.Helper()
	p := withProjects(t, change...)
	for _, name := range []string{"secretfailed", "secretshop"} {
		doc := strings.Replace(secretDocument(t, name), "secretspace#secret_host", secretDataset, 1)
		if name == "secretshop" {
			doc = strings.ReplaceAll(edited(t, name, []string{host}, "config", "role", "host"),
				"testspace#test_guest", secretDataset)
			doc = strings.ReplaceAll(doc, "testspace#test_host", "secretshop#orders")
		}
		p.good(post(bfia.PathCreate, doc))
	}
	require.NoError(t, p.store.UpdateJob(t.Context(), "secretfailed", bfia.JobFinished, "", time.Now(),
		store.EndsAs(bfia.OutcomeFailed)))
	return p
}

// attackFrom attacks as a client of a project, which has the datasets of the captured job.
func attackFrom(t *testing.T, project string, change ...func(*Config)) {
	p := withMoreSecrets(t, change...)
	if project != "a" { // the names are those of the party
		for _, name := range []string{"test_guest", "test_host"} {
			p.good(post(bfia.PathDataDelete, bfia.Address{Namespace: "testspace", Name: name}))
			p.upload(rolesIn(project), "testspace", name, "")
		}
	}
	p.good(p.submitCall(rolesIn(project), job(t, "ours"), ""))
	p.good(post(bfia.PathCreate, job(t, "ours")))
	state := p.stateOfSecrets()
	secret, unknown := secretThings(p), unknownThings()
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
				got := p.attack(t, r, a, secret, project)
				require.NotEqual(t, http.StatusForbidden, got.Status, "%s", got.Body)
				signals := p.engine.takeSignals()
				require.NotContains(t, fmt.Sprint(signals), secretWord)
				if a.quiet {
					require.Equal(t, bfia.CodeOK, got.Code, "%s", got.Body)
					require.NotContains(t, string(got.Body), secretWord)
					return
				}
				require.Empty(t, signals)
				want := p.attack(t, r, a, unknown, project)
				require.NotEqual(t, bfia.CodeOK, want.Code, "%s", want.Body)
				// A malformed request would be answered alike too, and show nothing.
				require.NotEqual(t, bfia.CodeBadRequest, want.Code, "%s", want.Body)
				require.Equal(t, want.Status, got.Status, "%s", got.Body)
				require.Equal(t, unknown.hide(want.Body), secret.hide(got.Body))
				require.Empty(t, p.engine.takeSignals())
			})
		}
	}
	for key := range attacks {
		require.True(t, tried[key], "%s does not exist any more, or is for the whole party", key)
	}
	require.Equal(t, state, p.stateOfSecrets())
}

// hide replaces what an answer says of things.
func (x namedThings) hide(answer []byte) string {
	text := string(answer)
	for _, id := range []string{x.job, x.task, x.namespace, x.name, x.upload, x.rule, x.periodic} {
		text = strings.ReplaceAll(text, id, "THING")
	}
	return text
}

// TestOwnProject tries the same requests with a client of the project: each finds what it names. So the
// refusals of TestOtherProject are for the project, not for a mistake in a request, and the lists that it
// finds empty are so for others only.
func TestOwnProject(t *testing.T) {
	p := withMoreSecrets(t)
	secret, unknown := secretThings(p), unknownThings()
	for _, r := range p.server.routes() {
		key := r.method + " " + r.path
		for i, a := range attacks[key] {
			if a.conflicts || r.method != http.MethodGet {
				continue // TestActsOfOwnProject
			}
			t.Run(fmt.Sprintf("%s %d", key, i), func(t *testing.T) {
				if a.quiet {
					got := p.good(p.attackCall(t, r, a, secret).as(rolesIn("b")))
					if a.shared == "" {
						require.Contains(t, string(got.Body), secretWord)
					}
					return
				}
				got := p.send(p.attackCall(t, r, a, secret).as(rolesIn("b", "a")))
				want := p.send(p.attackCall(t, r, a, unknown).as(rolesIn("b", "a")))
				require.NotEqual(t, want.Text()+string(want.Body), got.Text()+string(got.Body))
			})
		}
	}
}

// TestActsOfOwnProject lets a client of the project do what others are refused: each act succeeds, or is
// refused for another reason than an unknown thing: that the job has not ended, or runs.
func TestActsOfOwnProject(t *testing.T) {
	routes := withProjects(t).server.routes()
	for _, r := range routes {
		key := r.method + " " + r.path
		for i, a := range attacks[key] {
			if a.conflicts || r.method == http.MethodGet {
				continue
			}
			t.Run(fmt.Sprintf("%s %d", key, i), func(t *testing.T) {
				p := withProjects(t)
				for _, name := range []string{"test_guest", "test_host"} { // the attacks' jobs read them
					p.good(post(bfia.PathDataDelete, bfia.Address{Namespace: "testspace", Name: name}))
					p.upload(rolesIn("b"), "testspace", name, "")
				}
				p.engine.takeSignals()
				got := p.attack(t, r, a, secretThings(p), "b")
				if got.Code == bfia.CodeOK {
					return
				}
				require.Contains(t, string(got.Body), secretWord)
				require.Regexp(t, "is READY|is read by job|still runs|PENDING", got.Text())
			})
		}
	}
}

func (p *party) attackCall(t *testing.T, r route, a attack, x namedThings) call {
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

// attack sends a request of a client of a project.
func (p *party) attack(t *testing.T, r route, a attack, x namedThings, project string) *reply {
	return p.send(p.attackCall(t, r, a, x).as(rolesIn(project)))
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
		bfia.PathDataQuery, bfia.PathPeriodicQuery, bfia.PathPlatformJobList, bfia.PathProjectQuery} {
		text.Write(p.good(get(path)).Body)
	}
	notes, err := p.store.JobNotes(p.t.Context(), []string{secretJob})
	require.NoError(p.t, err)
	return text.String() + notes[secretJob]
}
