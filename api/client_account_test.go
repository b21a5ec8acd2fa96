package api

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store"
	"hutong/store/storetest"
)

// strictParty is a party whose clients must prove who they are, over TLS.
type strictParty struct {
	*party
	url       string
	authority *certs.Authority // of the party's certificate, and of clients
}

func newStrictParty(t *testing.T, database *store.Store, change ...func(*Config)) *strictParty {
	t.Helper()
	authenticator := ClientsBy(clients.New(clients.Config{Certificates: []clients.Certificate{
		{Subject: "ci.bank.example", Name: "ci", Roles: []identity.Role{identity.Viewer}}}}, database))
	p := &strictParty{party: newParty(t, append(change, func(c *Config) {
		c.Clients, c.FourEyes = authenticator, true
	})...)}
	var err error
	p.authority, err = certs.NewAuthority("bank")
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(p.authority.Certificate)
	settings := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  pool,
		Certificates: []tls.Certificate{
			issue(t, p.authority, certs.Leaf{Node: guest, Hosts: []string{"127.0.0.1"}}),
		},
		NextProtos: []string{"http/1.1"},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = p.server.ServeClients(tls.NewListener(l, settings)) }() // until the party's shutdown
	p.url = "https://" + l.Addr().String()
	return p
}

func issue(t *testing.T, a *certs.Authority, leaf certs.Leaf) tls.Certificate {
	t.Helper()
	text, err := a.Issue(leaf)
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(text, text)
	require.NoError(t, err)
	return pair
}

// client returns an HTTP client that trusts the party, with a certificate or without.
func (p *strictParty) client(pairs ...tls.Certificate) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(p.authority.Certificate)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool,
		Certificates: pairs}}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends a request with a token, or without one, and returns the status and the answer.
func (p *strictParty) ask(over *http.Client, token, method, path string, body any) (int, http.Header,
	bfia.Envelope) {
	p.t.Helper()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return p.askWith(over, header, method, path, body)
}

// askWith sends a request with headers.
func (p *strictParty) askWith(over *http.Client, header http.Header, method, path string, body any) (int,
	http.Header, bfia.Envelope) {
	p.t.Helper()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		require.NoError(p.t, err)
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, content)
	require.NoError(p.t, err)
	request.Header = header.Clone()
	request.Header.Set("Content-Type", "application/json")
	response, err := over.Do(request)
	require.NoError(p.t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	described(p.t, request, response, text)
	var envelope bfia.Envelope
	require.NoError(p.t, json.Unmarshal(text, &envelope), "%s", text)
	return response.StatusCode, response.Header, envelope
}

// token makes a token in the database.
func (p *strictParty) token(name string, expires *time.Time, roles ...identity.Role) string {
	p.t.Helper()
	secret, row, err := clients.NewToken(name, roles, "test", expires)
	require.NoError(p.t, err)
	require.NoError(p.t, p.store.CreateToken(p.t.Context(), row))
	return secret
}

// newStrict returns a strict party on its own database.
func newStrict(t *testing.T, change ...func(*Config)) *strictParty {
	t.Helper()
	address := storetest.SQLite(t)
	p := newStrictParty(t, storetest.Open(t, address), append(change, func(*Config) {})...)
	p.store = storetest.Open(t, address) // tokens are read from there; the party's rows are in its own
	return p
}

// TestRolesOverTLS checks every role at endpoints of every role, over TLS: who has the role, and an
// administrator, gets the endpoint's answer; everybody else is refused with the role that is missing.
func TestRolesOverTLS(t *testing.T) {
	p := newStrict(t)
	over := p.client()
	for _, e := range []struct {
		role         identity.Role
		method, path string
		body         any
	}{
		{identity.Viewer, http.MethodGet, bfia.PathDataQuery, nil},
		{identity.Viewer, http.MethodGet, bfia.PathPlatformJobList, nil},
		{identity.Operator, http.MethodPost, bfia.PathPlatformStopAll, bfia.JobRef{JobID: "none"}},
		{identity.Operator, http.MethodPost, bfia.PathJobDelete, bfia.JobRef{JobID: "none"}},
		{identity.Data, http.MethodPost, bfia.PathDataDelete, bfia.Address{Namespace: "a", Name: "b"}},
		{identity.Data, http.MethodGet, bfia.PathDataDownload + "?namespace=a&name=b", nil},
		{identity.Logs, http.MethodGet, bfia.PathPlatformLogLines + "?task_id=none", nil},
		{identity.Approver, http.MethodPost, bfia.PathPlatformAudit,
			bfia.Audit{JobID: "none", Status: "READY"}},
		{identity.ProviderAdmin, http.MethodPost, bfia.PathProviderDelete, map[string]string{"name": "none"}},
		{identity.RunnerAdmin, http.MethodPost, bfia.PathRunnerDrain, map[string]any{"runner_id": "x",
			"draining": true}},
		{identity.Admin, http.MethodGet, bfia.PathTokenQuery, nil},
		{identity.Admin, http.MethodPost, bfia.PathTokenRevoke, bfia.RevokeToken{TokenID: "none"}},
		{identity.Admin, http.MethodPost, bfia.PathTokenCreate, bfia.CreateToken{Name: "x",
			Roles: []string{"root"}}},
	} {
		status, header, answer := p.ask(over, "", e.method, e.path, e.body)
		assert.Equal(t, http.StatusUnauthorized, status, "%s: %s", e.path, answer.Text())
		assert.Equal(t, `Bearer realm="hutong"`, header.Get("WWW-Authenticate"), e.path)
		for _, role := range identity.Roles() {
			token := p.token("someone", nil, role)
			status, _, answer := p.ask(over, token, e.method, e.path, e.body)
			if role == e.role || role == identity.Admin {
				assert.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, status,
					"%s with %s: %s", e.path, role, answer.Text())
				continue
			}
			assert.Equal(t, http.StatusForbidden, status, "%s with %s: %s", e.path, role, answer.Text())
			assert.Contains(t, answer.Text(), "someone lacks the role "+string(e.role))
		}
	}

	token := p.token("auditor", nil, identity.Auditor)
	status, _, answer := p.ask(over, token, http.MethodGet, bfia.PathWhoAmI, nil)
	assert.Equal(t, http.StatusOK, status, answer.Text())
	var who bfia.WhoAmI
	require.NoError(t, json.Unmarshal(answer.Data, &who))
	assert.Equal(t, []string{"auditor"}, who.Roles)
	assert.Equal(t, "token", who.Proof)
	for _, path := range []string{bfia.PathHealth, bfia.PathOpenAPI, bfia.PathLogin} {
		response, err := over.Get(p.url + path)
		require.NoError(t, err)
		_ = response.Body.Close()
		assert.Equal(t, http.StatusOK, response.StatusCode, path)
	}
}

// TestTokenLife checks that a token works in all API processes from its creation to its expiry or
// revocation, which ends it at once.
func TestTokenLife(t *testing.T) {
	address := storetest.SQLite(t)
	first := newStrictParty(t, storetest.Open(t, address))
	second := newStrictParty(t, storetest.Open(t, address))
	first.store = storetest.Open(t, address)
	first.server.store = first.store
	over, other := first.client(), second.client()
	admin := first.token("root", nil, identity.Admin)

	later := time.Now().Add(time.Hour)
	status, header, answer := first.ask(over, admin, http.MethodPost, bfia.PathTokenCreate,
		bfia.CreateToken{Name: "alice", Roles: []string{"viewer"}, ExpiresAt: &later})
	require.Equal(t, http.StatusOK, status, answer.Text())
	require.Equal(t, "no-store", header.Get("Cache-Control"))
	var made bfia.TokenCreated
	require.NoError(t, json.Unmarshal(answer.Data, &made))
	require.Equal(t, "client root", made.CreatedBy)

	before := time.Now().UTC()
	status, _, answer = second.ask(other, made.Token, http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusOK, status, answer.Text())
	today := []string{before.Format(time.DateOnly), time.Now().UTC().Format(time.DateOnly)} // or midnight
	_, _, answer = first.ask(over, admin, http.MethodGet, bfia.PathTokenQuery, nil)
	require.NotContains(t, string(answer.Data), made.Token)
	require.True(t, slices.ContainsFunc(today, func(day string) bool {
		return strings.Contains(string(answer.Data), day)
	}), "its last use: %s", answer.Data)

	status, _, answer = first.ask(over, admin, http.MethodPost, bfia.PathTokenRevoke,
		bfia.RevokeToken{TokenID: made.TokenID})
	require.Equal(t, http.StatusOK, status, answer.Text())
	status, header, answer = second.ask(other, made.Token, http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, answer.Text(), "was revoked")
	require.Equal(t, `Bearer realm="hutong", error="invalid_token"`, header.Get("WWW-Authenticate"))

	past := time.Now().Add(-time.Second)
	expired := first.token("bob", &past, identity.Viewer)
	status, _, answer = second.ask(other, expired, http.MethodGet, bfia.PathDataQuery, nil)
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, answer.Text(), "expired at")
	status, _, answer = first.ask(over, admin, http.MethodPost, bfia.PathTokenCreate,
		bfia.CreateToken{Name: "bob", Roles: []string{"viewer"}, ExpiresAt: &past})
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer.Text(), "expires_at: ")
	for _, secret := range []string{admin, made.Token, expired} {
		require.NotContains(t, first.log.String()+second.log.String(), secret)
	}
}

// TestClientCertificates checks that a certificate of the authority for clients proves who calls, if the
// configuration knows its holder.
func TestClientCertificates(t *testing.T) {
	p := newStrict(t)
	known := p.client(issue(t, p.authority, certs.Leaf{Hosts: []string{"ci.bank.example"}}))
	status, _, answer := p.ask(known, "", http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusOK, status, answer.Text())
	require.Contains(t, string(answer.Data), `"name":"ci"`)
	status, _, answer = p.ask(known, "", http.MethodGet, bfia.PathDataQuery, nil)
	require.Equal(t, http.StatusOK, status, answer.Text())
	status, _, answer = p.ask(known, "", http.MethodPost, bfia.PathJobDelete, bfia.JobRef{JobID: "none"})
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, answer.Text(), "ci lacks the role operator")

	unknown := p.client(issue(t, p.authority, certs.Leaf{Hosts: []string{"x.bank.example"}}))
	status, _, answer = p.ask(unknown, "", http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, answer.Text(), "client_certificates gives its holder no roles")
	status, _, _ = p.ask(p.client(), "", http.MethodGet, bfia.PathWhoAmI, nil)
	require.Equal(t, http.StatusUnauthorized, status)

	foreign, err := certs.NewAuthority("bank") // of the same name
	require.NoError(t, err)
	_, err = p.client(issue(t, foreign, certs.Leaf{Hosts: []string{"ci.bank.example"}})).
		Get(p.url + bfia.PathWhoAmI)
	require.Error(t, err, "the handshake fails")
}

// TestFourEyes checks that the client who submitted a job can't approve it, whatever its roles are, and that
// the party's own status names who did what.
func TestFourEyes(t *testing.T) {
	address := storetest.SQLite(t)
	p := newStrictParty(
		t,
		storetest.Open(t, address),
		func(c *Config) { c.Approval, c.CheckDatasets = true, false },
	)
	tokens := storetest.Open(t, address)
	own := p.store
	p.store = tokens
	alice := p.token("alice", nil, identity.Operator, identity.Approver, identity.Viewer)
	again := p.token("alice", nil, identity.Approver)
	root := p.token("root", nil, identity.Admin)
	bob := p.token("bob", nil, identity.Approver)
	p.store = own
	over := p.client()
	p.server.Config.Clients = nil // the applications hold the authenticator

	status, _, answer := p.ask(over, root, http.MethodPost, bfia.PathProviderRegister,
		json.RawMessage(vector(t, "provider_register.request.json")))
	require.Equal(t, http.StatusOK, status, answer.Text())
	status, _, answer = p.ask(over, alice, http.MethodPost, bfia.PathPlatformCreateAll,
		json.RawMessage(job(t, "j1")))
	require.Equal(t, http.StatusOK, status, answer.Text())
	p.good(post(bfia.PathCreate, job(t, "j1")).from(guest)) // as the scheduler's workflow does

	approve := bfia.Audit{JobID: "j1", Status: bfia.JobReady}
	for _, token := range []string{alice, again} {
		status, _, answer = p.ask(over, token, http.MethodPost, bfia.PathPlatformAudit, approve)
		require.Equal(t, http.StatusForbidden, status)
		require.Contains(t, answer.Text(), "alice submitted job j1 and can't approve it")
	}
	require.Empty(t, p.engine.takeSignals())
	statusOf := func() (status bfia.JobStatus) {
		code, _, answer := p.ask(over, root, http.MethodGet, bfia.PathPlatformStatusAll+"?job_id=j1", nil)
		require.Equal(t, http.StatusOK, code, answer.Text())
		require.NoError(t, json.Unmarshal(answer.Data, &status))
		return status
	}
	require.Equal(t, []string{"alice"}, statusOf().SubmittedBy)
	require.Empty(t, statusOf().ApprovedBy)

	p.engine.set(nil, errDown)
	status, _, _ = p.ask(over, root, http.MethodPost, bfia.PathPlatformAudit, approve)
	require.Equal(t, http.StatusServiceUnavailable, status)
	p.engine.set(nil, nil)
	require.Empty(t, statusOf().ApprovedBy, "an approval that may not have arrived is not shown")
	status, _, answer = p.ask(over, bob, http.MethodPost, bfia.PathPlatformAudit, approve)
	require.Equal(t, http.StatusOK, status, answer.Text())
	require.Len(t, p.engine.takeSignals(), 1)
	require.NoError(t, own.UpdateJob(t.Context(), "j1", bfia.JobReady, "", time.Now()))
	require.NoError(t, own.UpdateScheduleJob(t.Context(), "j1", bfia.JobReady, "", time.Now()))
	require.Contains(t, statusOf().ApprovedBy, "bob")

	r := p.good(get(bfia.PathStatusAll + "?job_id=j1").from(guest))
	require.NotContains(t, string(r.Data), "alice", "partners don't learn the party's clients")
	require.NotContains(t, string(r.Data), "bob")

	status, _, answer = p.ask(
		over,
		bob,
		http.MethodPost,
		bfia.PathPlatformCreateAll,
		json.RawMessage(job(t, "j2")),
	)
	require.Equal(t, http.StatusForbidden, status, "bob has not the role to submit: %s", answer.Text())
	other := edited(t, "j1", "another", "flow_id")
	status, _, answer = p.ask(over, root, http.MethodPost, bfia.PathPlatformCreateAll, json.RawMessage(other))
	require.Equal(t, http.StatusConflict, status, answer.Text())
	acts, err := own.JobClients(t.Context(), "j1")
	require.NoError(t, err)
	for _, a := range acts {
		require.False(
			t,
			a.Name == "root" && a.Act == store.ActSubmitted,
			"a refused submission leaves no record",
		)
	}
}
