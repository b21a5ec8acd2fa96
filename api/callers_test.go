package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/fateflow/fateclient"
	"hutong/internal/identity"
)

// class is who may call an endpoint, as the test knows it: the second, independent list next to the table of
// routes.
type class struct {
	public   bool
	client   bool            // clients, whatever their roles are
	roles    []identity.Role // clients with one of these roles
	verb     bfia.Verb       // partners that may do this
	partners bool            // all partners
	anyNode  bool            // partners, and nodes that are none yet
}

func role(any ...identity.Role) class { return class{roles: any} }
func verb(v bfia.Verb) class          { return class{verb: v} }

// classes lists every endpoint. An endpoint that is missing here fails TestCallers.
var classes = map[string]class{
	bfia.PathProviderRegister: role(identity.ProviderAdmin), bfia.PathProviderQuery: role(identity.Viewer),
	bfia.PathProviderAllow:     role(identity.Admin),
	bfia.PathProviderDelete:    role(identity.ProviderAdmin),
	bfia.PathComponentRegister: role(identity.ProviderAdmin),
	bfia.PathComponentUpload:   role(identity.Data), bfia.PathDataUpload: role(identity.Data),
	bfia.PathComponentFile: role(identity.Data), bfia.PathDataFile: role(identity.Data),
	bfia.PathDataQuery: role(identity.Viewer), bfia.PathDataDelete: role(identity.Data),
	bfia.PathDataPartners: role(identity.Viewer),
	bfia.PathModelQuery:   role(identity.Viewer), bfia.PathModelKeep: role(identity.Data),
	bfia.PathModelPrediction: role(identity.Viewer),
	bfia.PathModelDelete:     role(identity.Data), bfia.PathModelExport: role(identity.Data),
	bfia.PathModelImport:  role(identity.Data),
	bfia.PathDataDownload: role(identity.Data), bfia.PathJobDelete: role(identity.Operator),
	bfia.PathPlatformCreateAll: role(identity.Operator), bfia.PathV2CreateAll: role(identity.Operator),
	bfia.PathPlatformCheck: role(identity.Operator), bfia.PathPlatformStopAll: role(identity.Operator),
	bfia.PathPlatformStopTask: role(identity.Operator), bfia.PathPlatformAudit: role(identity.Approver),
	bfia.PathPlatformPriority: role(identity.Operator), bfia.PathPlatformStatusAll: role(identity.Viewer),
	bfia.PathPlatformJobList: role(identity.Viewer), bfia.PathPlatformLogLines: role(identity.Logs),
	bfia.PathPlatformLog: role(identity.Logs), bfia.PathJobOutputs: role(identity.Viewer),
	bfia.PathJobEvidence: role(identity.Auditor), bfia.PathAuditQuery: role(identity.Auditor),
	bfia.PathAuditArchive: role(identity.Admin),
	bfia.PathJobAccount:   role(identity.Viewer),
	bfia.PathJobShow:      role(identity.Viewer, identity.Approver),
	bfia.PathJobDocument:  role(identity.Viewer),
	bfia.PathTokenCreate:  role(identity.Admin), bfia.PathTokenQuery: role(identity.Admin),
	bfia.PathPeriodicAdd: role(identity.Operator), bfia.PathPeriodicChange: role(identity.Operator),
	bfia.PathPeriodicPause: role(identity.Operator), bfia.PathPeriodicResume: role(identity.Operator),
	bfia.PathPeriodicRun: role(identity.Operator), bfia.PathPeriodicDelete: role(identity.Operator),
	bfia.PathPeriodicQuery: role(identity.Viewer),
	bfia.PathTokenRevoke:   role(identity.Admin), bfia.PathWhoAmI: {client: true},
	bfia.PathLogin:           {public: true},
	bfia.PathJobApproval:     role(identity.Viewer, identity.Approver),
	bfia.PathApprovalRuleAdd: role(identity.Approver), bfia.PathApprovalRuleRemove: role(identity.Approver),
	bfia.PathApprovalRuleQuery: role(identity.Viewer, identity.Approver),
	bfia.PathEvents:            role(identity.Viewer),
	bfia.PathOverview:          role(identity.Viewer, identity.Approver),
	bfia.PathRunnerQuery:       role(identity.Viewer), bfia.PathRunnerDrain: role(identity.RunnerAdmin),

	bfia.PathNotificationQuery:  role(identity.Viewer),
	bfia.PathNotificationTest:   role(identity.Operator),
	bfia.PathNotificationResend: role(identity.Operator),
	bfia.PathProjectQuery:       role(identity.Viewer), bfia.PathProjectCreate: role(identity.Admin),
	bfia.PathProjectSet: role(identity.Admin), bfia.PathProjectRemove: role(identity.Admin),
	bfia.PathGrantAdd: role(identity.Admin), bfia.PathGrantQuery: role(identity.Admin),
	bfia.PathGrantRevoke:  role(identity.Admin),
	bfia.PathGrantRequest: role(identity.Admin), bfia.PathGrantRequests: role(identity.Admin),
	bfia.PathGrantApprove: role(identity.Admin), bfia.PathGrantDeny: role(identity.Admin),
	bfia.PathGrantTerminate: role(identity.Admin),
	bfia.PathDatasetApply:   {partners: true}, bfia.PathDatasetConfirm: {partners: true},
	bfia.PathDatasetTerminate: {partners: true}, bfia.PathDatasetQuery: {partners: true},
	bfia.PathPartnerInvite: role(identity.Admin), bfia.PathPartnerApply: role(identity.Admin),
	bfia.PathPartnerAccept: role(identity.Admin), bfia.PathPartnerRemove: role(identity.Admin),
	bfia.PathPartnerUpdate: role(identity.Admin), bfia.PathPartnerQuery: role(identity.Viewer),

	// Other nodes ask for a contract before they are partners.
	bfia.PathContractApply: {anyNode: true}, bfia.PathContractQuery: {anyNode: true},
	bfia.PathNodeQuery: {anyNode: true}, bfia.PathNodeHealth: {anyNode: true},
	bfia.PathContractConfirm: {partners: true}, bfia.PathContractTerminate: {partners: true},
	bfia.PathNodeUpdate: {partners: true},

	bfia.PathHealth: {public: true}, bfia.PathReady: {public: true},
	bfia.PathOpenAPI: {public: true}, pathRoot: {public: true}, pathConsole: {public: true},

	bfia.PathCreateAll: verb(bfia.VerbCreateAll), bfia.PathStopAll: verb(bfia.VerbStopAll),
	bfia.PathStatusAll: verb(bfia.VerbStatusAll), bfia.PathTaskCallback: verb(bfia.VerbTaskCallback),
	bfia.PathAuditConfirm: verb(bfia.VerbAuditConfirm), bfia.PathCapacityHint: verb(bfia.VerbCapacityHint),
	bfia.PathPriority: verb(bfia.VerbPriority), bfia.PathCheck: verb(bfia.VerbCheck),
	bfia.PathCreate: verb(bfia.VerbCreate), bfia.PathStart: verb(bfia.VerbStart),
	bfia.PathTaskStart: verb(bfia.VerbTaskStart), bfia.PathTaskPoll: verb(bfia.VerbTaskPoll),
	bfia.PathStop: verb(bfia.VerbStop), bfia.PathTaskStop: verb(bfia.VerbTaskStop),
	bfia.PathReserve: verb(bfia.VerbReserve), bfia.PathRelease: verb(bfia.VerbRelease),

	fateflow.PathJobCreate: verb(bfia.VerbCreate), fateflow.PathJobStart: verb(bfia.VerbStart),
	fateflow.PathJobStatus: verb(bfia.VerbStart), fateflow.PathJobUpdate: verb(bfia.VerbStart),
	fateflow.PathJobApply: verb(bfia.VerbReserve), fateflow.PathJobReturn: verb(bfia.VerbRelease),
	fateflow.PathJobStop: verb(bfia.VerbStop), fateflow.PathTaskApply: verb(bfia.VerbTaskPoll),
	fateflow.PathTaskReturn: verb(bfia.VerbTaskPoll), fateflow.PathTaskStart: verb(bfia.VerbTaskPoll),
	fateflow.PathTaskStatus: verb(bfia.VerbTaskPoll), fateflow.PathTaskCollect: verb(bfia.VerbTaskPoll),
	fateflow.PathTaskStop: verb(bfia.VerbTaskPoll), fateflow.PathTaskRerun: verb(bfia.VerbTaskPoll),
	fateflow.PathSchedulerJobStop:    verb(bfia.VerbStopAll),
	fateflow.PathSchedulerTaskReport: verb(bfia.VerbTaskCallback),
	fateflow.PathSchedulerJobCreate:  {partners: true}, fateflow.PathSchedulerJobRerun: {partners: true},

	fateclient.PathJobSubmit: role(identity.Operator), fateclient.PathJobQuery: role(identity.Viewer),
	fateclient.PathJobList: role(identity.Viewer), fateclient.PathJobStop: role(identity.Operator),
	fateclient.PathTaskQuery: role(identity.Viewer), fateclient.PathTaskList: role(identity.Viewer),
	fateclient.PathJobRerun: role(identity.Operator), fateclient.PathJobClean: role(identity.Operator),
	fateclient.PathQueueClean: role(identity.Operator), fateclient.PathJobNotes: role(identity.Operator),
	fateclient.PathJobDependency: role(identity.Viewer), fateclient.PathJobData: role(identity.Viewer),
	fateclient.PathMetricQuery: role(identity.Data), fateclient.PathMetricKeys: role(identity.Data),
	fateclient.PathModelQuery: role(identity.Data), fateclient.PathModelDownload: role(identity.Data),
	fateclient.PathDataTable: role(identity.Data), fateclient.PathDataDisplay: role(identity.Data),
	fateclient.PathDataDownload: role(identity.Data), fateclient.PathTableQuery: role(identity.Data),
	fateclient.PathTableDelete: role(identity.Data), fateclient.PathLogQuery: role(identity.Logs),
	fateclient.PathLogCount: role(identity.Logs), fateclient.PathJobLog: role(identity.Logs),
	fateclient.PathSite: role(identity.Viewer), fateclient.PathServer: role(identity.Viewer),
}

// outcome is what a caller gets of an endpoint.
type outcome string

const (
	served          outcome = "served" // also if the request itself is wrong
	unauthenticated outcome = "unauthenticated"
	forbiddenTo     outcome = "forbidden"
	unknownTo       outcome = "unknown job"
)

// position is a partner's position in the job of the test, or a caller's of another kind.
type testCaller struct {
	name      string
	principal identity.Principal
}

const strange = "JG0199999999999999"

func testCallers(task string) []testCaller {
	partner := func(node string, proof identity.Proof) identity.Principal {
		return identity.Principal{Kind: identity.KindPartner, Node: node, Proof: proof}
	}
	container := func(task string) identity.Principal {
		return identity.Principal{Kind: identity.KindContainer, Node: guest, Proof: identity.ByAddress,
			Run: identity.Run{JobID: "j1", TaskID: task, Role: "guest.0"}}
	}
	callers := []testCaller{
		{name: "none"},
		{name: "no role", principal: identity.Principal{Kind: identity.KindClient}},
		{name: "scheduler", principal: partner(guest, identity.ByProcess)},
		{name: "participant", principal: partner(host, identity.ByCertificate)},
		{name: "stranger", principal: partner(strange, identity.ByCertificate)},
		{name: "unnamed", principal: partner("", identity.ByNothing)},
		{name: "container", principal: container(task)},
		{name: "other container", principal: container("another")},
	}
	for _, r := range identity.Roles() {
		callers = append(callers, testCaller{name: string(r), principal: identity.Principal{
			Kind: identity.KindClient, Roles: []identity.Role{r}}})
	}
	return callers
}

// expected returns what a caller gets of an endpoint of a class.
func (c class) expected(caller testCaller) outcome {
	p := caller.principal
	switch {
	case c.public:
		return served
	case p.Kind == identity.KindAnonymous:
		return unauthenticated
	case c.client:
		if p.Kind == identity.KindClient {
			return served
		}
		return forbiddenTo
	case len(c.roles) > 0:
		if slices.ContainsFunc(c.roles, p.Can) {
			return served
		}
		return forbiddenTo
	case p.Kind != identity.KindPartner:
		return forbiddenTo
	case c.partners, c.anyNode:
		return served
	}
	switch caller.name {
	case "scheduler": // and initiator, and guest
		return served
	case "participant":
		switch c.verb {
		case bfia.VerbStopAll, bfia.VerbStatusAll, bfia.VerbTaskCallback, bfia.VerbAuditConfirm,
			bfia.VerbCapacityHint:
			return served
		}
		return forbiddenTo
	case "stranger":
		switch c.verb {
		case bfia.VerbCreateAll, bfia.VerbCreate, bfia.VerbCheck:
			return forbiddenTo
		case bfia.VerbStop:
			return served // there is nothing to stop, as for a job that does not exist
		}
		return unknownTo
	}
	return forbiddenTo // a partner without a name
}

// asCaller is a listener whose connections are those of one caller.
type asCaller struct {
	net.Listener
	caller identity.Principal
}

func (l asCaller) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &callerConn{c, identity.Address{Principal: l.caller}}, nil
}

type callerConn struct {
	net.Conn
	address identity.Address
}

func (c callerConn) RemoteAddr() net.Addr { return c.address }

// TestCallers sends a request to every endpoint as every kind of caller, and checks who is let in: by a list
// that is independent of the table of routes.
func TestCallers(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Schedulers = nil })
	p.server.events.ping = 10 * time.Millisecond // it notices soon that a reader has left
	p.withProvider().withData()
	document := withHost(t, "j1")
	p.good(post(bfia.PathCreateAll, document))
	p.good(post(bfia.PathCreate, document))
	task := bfia.TaskID("j1", first)
	_, err := p.store.StartTask(t.Context(), "j1", first, task, 1, time.Now())
	require.NoError(t, err)
	p.engine.grant = bfia.Grant{Granted: true}

	routes := p.server.routes()
	paths := map[string]bool{}
	for _, r := range routes {
		paths[r.path] = true
		_, classed := classes[r.path]
		if slices.ContainsFunc(fateclient.Refusals(),
			func(e fateclient.Refusal) bool { return e.Path == r.path }) {
			classes[r.path], classed = role(identity.Viewer), true // they are refused to all
		}
		require.True(t, classed, "who may call %s? Add it to classes", r.path)
	}
	for path := range classes {
		require.True(t, paths[path], "%s does not exist any more", path)
	}

	for _, caller := range testCallers(task) {
		t.Run(caller.name, func(t *testing.T) {
			known := func(identity.Kind) authenticators {
				return authenticators{identity.KindClient: byConnection, identity.KindPartner: byConnection}
			}
			address := p.serveAs(t, caller.principal, known(caller.principal.Kind))
			for _, r := range routes {
				p.server.signals = signalLimits{}
				p.engine.takeSignals()
				want := classes[r.path].expected(caller)
				got := request(t, address, r, caller.principal, task, document)
				require.Equal(t, want, got.outcome, "%s %s: %s", r.method, r.path, got.body)
				if want != served || caller.name == "stranger" {
					require.Empty(t, p.engine.takeSignals(), "%s %s", r.method, r.path)
				}
			}
		})
	}
}

// serveAs serves the endpoints of a listener to one caller.
func (p *party) serveAs(t *testing.T, caller identity.Principal, callers authenticators) string {
	t.Helper()
	app := p.server.newApp(callers)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.Listener(asCaller{l, caller}) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	return l.Addr().String()
}

type result struct {
	outcome outcome
	body    string
}

// request sends a request that is right as far as the caller is concerned.
func request(t *testing.T, address string, r route, caller identity.Principal, task, document string) result {
	t.Helper()
	body := "{}"
	role := "guest.0"
	if caller.Node == host {
		role = "host.0"
	}
	plain, _, _ := strings.Cut(role, ".")
	switch {
	case r.path == bfia.PathCreateAll || r.path == bfia.PathCreate || r.path == bfia.PathCheck:
		body = document
	case r.path == fateflow.PathJobCreate:
		body = fmt.Sprintf(`{"job_id":"j1","role":"guest","party_id":%q,"dag_schema":{"dag":%s}}`, guest,
			document)
	case r.path == fateflow.PathSchedulerTaskReport:
		body = fmt.Sprintf(`{"job_id":"j1","task_id":%q,"role":%q,"party_id":%q,"status":"success"}`, task,
			plain, caller.Node)
		if caller.Node == "" {
			body = strings.Replace(body, `"party_id":""`, `"party_id":"JG1"`, 1)
		}
	case strings.HasPrefix(r.path, "/v2/partner/"):
		body = fmt.Sprintf(`{"job_id":"j1","role":"guest","party_id":%q,"task_id":"j1_%s","new_version":1,
			"status":"running"}`, guest, first)
	case strings.HasPrefix(r.path, "/v1/interconn/") || strings.HasPrefix(r.path, "/v2/scheduler/"):
		body = fmt.Sprintf(`{"job_id":"j1","task_id":%q,"task_name":%q,"role":%q,"status":"SUCCESS"}`, task,
			first, role)
		if r.path == bfia.PathAuditConfirm {
			body = `{"job_id":"j1","status":"READY"}`
		}
	}
	path := r.path
	if r.method == http.MethodGet && r.path == bfia.PathStatusAll {
		path += "?job_id=j1"
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+address+path,
		strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	// What a caller says of itself does not count.
	req.Header.Set("x-source-node-id", guest)
	req.Header.Set("x-node-id", guest)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err, r.path)
	defer func() { _ = resp.Body.Close() }()
	var raw []byte
	if resp.Header.Get("Content-Type") != eventStream {
		raw, err = io.ReadAll(resp.Body)
	}
	require.NoError(t, err)
	var env bfia.Envelope
	_ = json.Unmarshal(raw, &env)
	got := result{served, string(raw)}
	switch {
	case env.Code == bfia.CodeUnauthenticated:
		got.outcome = unauthenticated
	case env.Code == bfia.CodeForbidden:
		got.outcome = forbiddenTo
	case env.Code == bfia.CodeNotFound && strings.Contains(env.Text(), "takes part"):
		got.outcome = unknownTo
	case env.Code == bfia.CodeNotFound && strings.Contains(env.Text(), "no such endpoint"):
		t.Fatalf("%s is not served: %s", r.path, raw)
	}
	return got
}

// TestListenersServeTheirCallers checks that each listener has the endpoints of its callers and no others.
func TestListenersServeTheirCallers(t *testing.T) {
	p := newParty(t, func(c *Config) { c.OpenPartners = false })
	for name, listener := range map[string]struct {
		serve func(net.Listener) error
		kinds []identity.Kind
	}{
		"clients":  {p.server.ServeClients, []identity.Kind{identity.KindClient, ""}},
		"partners": {p.server.ServePartners, []identity.Kind{identity.KindPartner, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			go func() { _ = listener.serve(l) }()
			for _, r := range p.server.routes() {
				kind := r.access.kind
				url := "http://" + l.Addr().String() + r.path
				req, err := http.NewRequestWithContext(t.Context(), r.method, url, strings.NewReader("{}"))
				require.NoError(t, err)
				resp, err := http.DefaultClient.Do(req)
				require.NoError(t, err)
				var raw []byte
				if resp.Header.Get("Content-Type") != eventStream {
					raw, err = io.ReadAll(resp.Body)
				}
				require.NoError(t, err)
				_ = resp.Body.Close()
				missing := strings.Contains(string(raw), "no such endpoint")
				require.Equal(t, !slices.Contains(listener.kinds, kind), missing, "%s %s: %s", r.method,
					r.path, raw)
			}
		})
	}
}

// TestDocumentHasTheCallers compares security in openapi.json with the table of routes.
func TestDocumentHasTheCallers(t *testing.T) {
	doc, err := document()
	require.NoError(t, err)
	for _, r := range (&Server{}).routes() {
		op := doc.Paths.Value(r.path).GetOperation(r.method)
		require.NotNil(t, op.Security, "%s %s has no security in openapi.json", r.method, r.path)
		var got []string
		for _, requirement := range *op.Security {
			for scheme, roles := range requirement {
				got = append(got, scheme+" "+strings.Join(roles, ","))
				require.NotNil(t, doc.Components.SecuritySchemes[scheme], scheme)
			}
		}
		var want []string
		switch {
		case r.access.everybody, r.access.strangers:
		case r.access.kind == identity.KindClient:
			for _, role := range r.access.roles {
				want = append(want, "client "+string(role))
			}
			if len(r.access.roles) == 0 {
				want = []string{"client "}
			}
		default:
			want = []string{string(r.access.kind) + " "}
		}
		require.Equal(t, want, got, "security of %s %s in openapi.json", r.method, r.path)
	}
}
