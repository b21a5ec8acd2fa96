package api

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// asked is a partner that records what it is sent.
type asked struct {
	mu       sync.Mutex
	failing  bool
	requests []asking
}

type asking struct{ path, body, permits string }

// recording starts a partner that accepts everything, unless it fails.
func (p *party) recording(node string) *asked {
	a := &asked{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests = append(a.requests, asking{r.URL.Path, string(body), r.Header.Get(bfia.HeaderTokenSet)})
		if a.failing {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"code":0,"msg":"success","data":{"status":"APPROVED"}}`)
	}))
	p.t.Cleanup(srv.Close)
	p.peer(node, srv.URL)
	return a
}

func (a *asked) fail(failing bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing = failing
}

// take returns the requests to a path so far and forgets all.
func (a *asked) take(path string) []asking {
	a.mu.Lock()
	defer a.mu.Unlock()
	var taken []asking
	for _, r := range a.requests {
		if r.path == path {
			taken = append(taken, r)
		}
	}
	a.requests = nil
	return taken
}

// permit returns the permit of the last confirmation.
func (a *asked) permit(t *testing.T) bfia.ResourcePermit {
	t.Helper()
	confirmed := a.take(bfia.PathDatasetConfirm)
	require.NotEmpty(t, confirmed)
	var decision bfia.DatasetConfirmation
	require.NoError(t, json.Unmarshal([]byte(confirmed[len(confirmed)-1].body), &decision))
	require.NoError(t, decision.Check(guest, host, "testspace#test_guest"))
	return *decision.Permit
}

// presenting sends a job with permits.
func presenting(document string, permits ...bfia.ResourcePermit) call {
	return presentingFrom(host, document, permits...)
}

func presentingFrom(node, document string, permits ...bfia.ResourcePermit) call {
	var set []bfia.Permit
	for _, p := range permits {
		set = append(set, p.Permit())
	}
	return post(bfia.PathCreate, document).from(node).with(bfia.HeaderTokenSet, bfia.FormatTokenSet(set))
}

func applicationOf(id string, times int) map[string]any {
	return map[string]any{"audit_id": id, "contract_id": "c1", "dataset_id": "testspace#test_guest",
		"times_limit": times}
}

func permitsRequired(c *Config) { c.GrantsRequired, c.PermitsRequired = true, true }

// TestPermitsOfGiver checks a grant at the party that gives it: the job presents the permit, which is bound
// to the partner, the dataset and the request.
func TestPermitsOfGiver(t *testing.T) {
	p := newParty(t, permitsRequired).withProvider().withData()
	partner := p.recording(host)
	create := post(bfia.PathCreate, hostsJob(t, "j1")).from(host)
	apply := post(bfia.PathDatasetApply, applicationOf("r1", 2)).from(host)
	for range 2 {
		p.good(apply)
	}
	p.bad(post(bfia.PathDatasetApply, applicationOf("r1", 3)).from(host), 200, bfia.CodeConflict, "audit_id:")
	p.bad(post(bfia.PathDatasetApply, applicationOf("", 3)).from(host), 200, bfia.CodeBadRequest,
		"audit_id: is required")
	state := func(node string) call {
		return get(bfia.PathDatasetQuery + "?audit_id=r1").from(node)
	}
	require.JSONEq(t, `{"status":"APPLIED"}`, string(p.good(state(host)).Data))
	p.bad(create, 200, bfia.CodeForbidden, "partner: "+host+" has no grant at "+guest)

	decision := map[string]any{"audit_id": "r1"}
	p.adds(post(bfia.PathGrantApprove, decision), "grant.approve grant r1 allowed")
	permit := partner.permit(t)
	require.Equal(t, 2, permit.TimesLimit)
	require.JSONEq(t, `{"status":"APPROVED"}`, string(p.good(state(host)).Data))
	require.Empty(t, partner.take(bfia.PathDatasetConfirm), "it was delivered")
	requireNoToken(t, p, permit.Token)

	// Another party's request, dataset or permit.
	p.bad(state("JG999"), 200, bfia.CodeNotFound, "no request r1 with JG999")
	p.bad(post(bfia.PathDatasetTerminate, decision).from("JG999"), 200, bfia.CodeNotFound)
	p.bad(post(bfia.PathDatasetConfirm, map[string]any{"audit_id": "r1", "status": "REJECTED"}).from(host),
		200,
		bfia.CodeNotFound)

	p.bad(create, 200, bfia.CodeForbidden, "requires its permit in x-mprac-token-set")
	forged := permit
	forged.Token += "x"
	moved := permit
	moved.ResourceID = "testspace#other"
	raised := permit
	raised.ResourceLevel = 2
	for _, wrong := range []bfia.ResourcePermit{forged, moved, raised} {
		p.bad(presenting(hostsJob(t, "j1"), wrong), 200, bfia.CodeForbidden,
			"x-mprac-token-set: the permit for", "is not one that "+guest+" has given to "+host)
	}
	p.bad(create.with(bfia.HeaderTokenSet, "nonsense"), 200, bfia.CodeBadRequest, "x-mprac-token-set[0]:")
	elsewhere := permit
	elsewhere.ResourceNodeID = "JG999" // a permit of another party is not this one's matter
	p.bad(presenting(hostsJob(t, "j1"), elsewhere), 200, bfia.CodeForbidden, "requires its permit")
	require.Empty(t, p.engine.started())

	p.good(presenting(hostsJob(t, "j1"), permit))
	p.good(create) // the same again: it was presented
	// The permit of this partner at another partner.
	stolen := strings.ReplaceAll(hostsJob(t, "j2"), `"initiator":{"node_id":"`+host+`"`,
		`"initiator":{"node_id":"JG999"`)
	require.NotEqual(t, stolen, hostsJob(t, "j2"))
	p.peer("JG999", "http://127.0.0.1:1")
	p.bad(presentingFrom("JG999", stolen, permit), 200, bfia.CodeForbidden,
		"is not one that "+guest+" has given to JG999")

	// What an administrator gives without a request needs no permit.
	var local bfia.DataGrant
	p.good(post(bfia.PathGrantAdd, map[string]any{"partner": host, "component": "*",
		"dataset": "*"})).into(&local)
	p.good(post(bfia.PathCreate, hostsJob(t, "j3")).from(host))
	p.good(post(bfia.PathGrantRevoke, bfia.GrantRef{ID: local.ID}))

	p.good(presenting(hostsJob(t, "j4"), permit))
	p.bad(presenting(hostsJob(t, "j5"), permit), 200, bfia.CodeForbidden, "grant: that of "+host)

	// A new permit in place of the earlier one, then the end.
	p.good(post(bfia.PathGrantApprove, map[string]any{"audit_id": "r1", "times": 0}))
	renewed := partner.permit(t)
	require.NotEqual(t, permit.Token, renewed.Token)
	p.good(presenting(hostsJob(t, "j6"), renewed))
	p.bad(presenting(hostsJob(t, "j7"), permit), 200, bfia.CodeForbidden)
	p.adds(post(bfia.PathGrantTerminate, decision), "grant.terminate grant r1 allowed")
	require.Len(t, partner.take(bfia.PathDatasetTerminate), 1)
	p.bad(presenting(hostsJob(t, "j7"), renewed), 200, bfia.CodeForbidden, "was revoked at")
	p.bad(post(bfia.PathGrantApprove, decision), 409, bfia.CodeConflict, "is TERMINATED")
}

// TestPermitThatDoesNotArrive checks that a partner gets a new permit when it asks: only a hash is kept.
func TestPermitThatDoesNotArrive(t *testing.T) {
	p := newParty(t, permitsRequired).withProvider().withData()
	partner := p.recording(host)
	p.good(post(bfia.PathDatasetApply, applicationOf("r1", 0)).from(host))
	partner.fail(true)
	var view bfia.GrantRequestView
	p.good(post(bfia.PathGrantApprove, map[string]any{"audit_id": "r1"})).into(&view)
	require.False(t, view.Permit)
	lost := partner.permit(t)

	partner.fail(false)
	p.good(get(bfia.PathDatasetQuery + "?audit_id=r1").from(host))
	permit := partner.permit(t)
	require.NotEqual(t, lost.Token, permit.Token)
	p.bad(presenting(hostsJob(t, "j1"), lost), 200, bfia.CodeForbidden, "is not one that")
	p.good(presenting(hostsJob(t, "j1"), permit))

	// The end of one of its grants is the end of the request.
	grants, err := p.store.Grants(t.Context(), host)
	require.NoError(t, err)
	require.Len(t, grants, 1)
	require.Equal(t, "r1", grants[0].AuditID)
	p.good(post(bfia.PathGrantRevoke, bfia.GrantRef{ID: grants[0].ID}))
	require.Len(t, partner.take(bfia.PathDatasetTerminate), 1)
}

// TestPermitsOfAsker checks a grant at the party that asks for it: it keeps the permit, shows it to nobody,
// and sends it with its jobs.
func TestPermitsOfAsker(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Scheduler = host }).withProvider().withData()
	partner := p.recording(host)
	ask := map[string]any{"partner": host, "dataset": "testspace#test_host", "components": []string{"LR"}}
	for field, wrong := range map[string]any{"partner": guest, "dataset": "a#*", "components": []string{"*"},
		"times": -1} {
		bad := map[string]any{"partner": host, "dataset": "testspace#test_host"}
		bad[field] = wrong
		p.bad(post(bfia.PathGrantRequest, bad), 400, bfia.CodeBadRequest)
	}
	var ref bfia.DatasetRequestRef
	p.good(post(bfia.PathGrantRequest, ask)).into(&ref)
	applied := partner.take(bfia.PathDatasetApply)
	require.Len(t, applied, 1)
	require.JSONEq(t, fmt.Sprintf(`{"audit_id":%q,"contract_id":%q,"dataset_id":"testspace#test_host",
		"auth_scope":{"COMPONENT":["LR"]}}`, ref.AuditID, guest), applied[0].body)

	permit := bfia.ResourcePermit{Token: "of-another-software", ResourceLevel: 3, ResourceType: "dataset",
		ResourceID: "testspace#test_host", ResourceNodeID: host, RequestNodeID: guest}
	confirm := func(node string, permit bfia.ResourcePermit) call {
		return post(bfia.PathDatasetConfirm, bfia.DatasetConfirmation{AuditID: ref.AuditID,
			Status: bfia.RequestApproved, Permit: &permit}).from(node)
	}
	p.bad(confirm("JG999", permit), 200, bfia.CodeNotFound, "no request")
	wrong := permit
	wrong.RequestNodeID = host
	p.bad(confirm(host, wrong), 200, bfia.CodeBadRequest, "resource_permit.request_node_id:")
	p.adds(confirm(host, permit), "partner.grant-confirm grant "+ref.AuditID+" allowed")

	listed := p.good(get(bfia.PathGrantRequests))
	require.NotContains(t, string(listed.Body), permit.Token)
	var views []bfia.GrantRequestView
	listed.into(&views)
	require.Len(t, views, 1)
	require.True(t, views[0].Sent && views[0].Permit)
	require.Equal(t, bfia.RequestApproved, views[0].State)

	partner.take("")
	p.good(post(bfia.PathPlatformCreateAll, withHost(t, "j1")))
	sent := partner.take(bfia.PathCreateAll)
	require.Len(t, sent, 1)
	require.Equal(t, host+":dataset:testspace#test_host/3/of-another-software", sent[0].permits)

	// The partner ends it; the permit is gone.
	p.good(post(bfia.PathDatasetTerminate, ref).from(host))
	p.good(post(bfia.PathPlatformCreateAll, withHost(t, "j2")))
	require.Empty(t, partner.take(bfia.PathCreateAll)[0].permits)
	requireNoToken(t, p, permit.Token)
	p.bad(confirm(host, permit), 200, bfia.CodeConflict, "is TERMINATED")

	// A request that the partner refuses, or does not get, is none.
	partner.fail(true)
	require.False(t, p.send(post(bfia.PathGrantRequest, ask)).OK())
	p.answering(host, http.StatusOK, `{"code":404,"msg":"no"}`)
	p.bad(post(bfia.PathGrantRequest, ask), 422, bfia.CodeRefused)
	found, err := p.store.GrantRequests(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 2, "the outcome of one is unknown")
}

// TestOpenRequestsOfAPartner checks that a partner can't fill the list.
func TestOpenRequestsOfAPartner(t *testing.T) {
	p := newParty(t)
	for i := range store.MaxOpenRequests {
		p.good(post(bfia.PathDatasetApply, applicationOf(fmt.Sprint("r", i), 0)).from(host))
	}
	p.bad(post(bfia.PathDatasetApply, applicationOf("more", 0)).from(host), 200, bfia.CodeTooMany)
	p.good(post(bfia.PathDatasetApply, applicationOf("other", 0)).from("JG999"))
	p.good(post(bfia.PathGrantDeny, map[string]any{"audit_id": "r0"}))
	p.good(post(bfia.PathDatasetApply, applicationOf("more", 0)).from(host))
	p.good(post(bfia.PathGrantDeny, map[string]any{"audit_id": "r1"}))
	p.good(post(bfia.PathDatasetApply, applicationOf("other", 0)).from(host))
	p.bad(post(bfia.PathGrantDeny, map[string]any{"audit_id": "other"}), 409, bfia.CodeConflict,
		"partner: several requests")
	p.good(post(bfia.PathGrantDeny, map[string]any{"audit_id": "other", "partner": "JG999"}))
}

// requireNoToken checks that a token is in no table and not in the log.
func requireNoToken(t *testing.T, p *party, token string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(p.database, "sqlite://")+
		"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, query := range []string{"SELECT token FROM t_grant_request WHERE token = ?",
		"SELECT permit_hash FROM t_grant WHERE permit_hash = ?",
		"SELECT reason FROM t_audit WHERE instr(reason, ?) > 0"} {
		rows, err := db.QueryContext(t.Context(), query, token)
		require.NoError(t, err)
		require.False(t, rows.Next(), query)
		require.NoError(t, rows.Close())
		require.NoError(t, rows.Err())
	}
	require.NotContains(t, p.log.String(), token)
}
