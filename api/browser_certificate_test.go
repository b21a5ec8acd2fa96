package api

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/clients"
	"hutong/internal/identity"
	"hutong/store/storetest"
)

// TestPageOfAnotherSite sends what the page of another web site can send from the browser of a user with a
// client certificate, which the browser shows to the party for any page: simple requests, for which a browser
// asks no permission. All are refused, in the name of the user, and nothing is done. The party's own page and
// programs are served.
func TestPageOfAnotherSite(t *testing.T) {
	database := storetest.Open(t, storetest.SQLite(t))
	p := newStrictParty(t, database, func(c *Config) {})
	p.server.Config.Clients = nil // the applications hold the authenticator
	browser := p.client(issue(t, p.authority, certs.Leaf{Hosts: []string{"ci.bank.example"}}))

	var upload bytes.Buffer
	form := multipart.NewWriter(&upload)
	require.NoError(t, form.WriteField("namespace", "demo"))
	require.NoError(t, form.WriteField("name", "rows"))
	file, err := form.CreateFormFile("file", "rows.csv")
	require.NoError(t, err)
	_, err = io.WriteString(file, "id,y\n1,0\n")
	require.NoError(t, err)
	require.NoError(t, form.Close())

	send := func(method, path, kind string, body []byte, header map[string]string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, p.url+path, bytes.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", kind)
		for name, value := range header {
			request.Header.Set(name, value)
		}
		response, err := browser.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	approve := []byte(`{"job_id":"j1","status":"READY"}`)
	for _, header := range []map[string]string{
		{"Origin": "https://evil.example"},
		{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
		{"Origin": "null"}, // a sandboxed frame
		{"Sec-Fetch-Site": "cross-site"},
		{"Sec-Fetch-Site": "same-site", "Origin": "https://127.0.0.1:1"},
	} {
		for _, e := range []struct {
			method, path, kind string
			body               []byte
		}{
			{http.MethodPost, bfia.PathPlatformAudit, "text/plain", approve},
			{http.MethodPost, bfia.PathPlatformAudit, "application/x-www-form-urlencoded", approve},
			{http.MethodPost, bfia.PathDataFile, form.FormDataContentType(), upload.Bytes()},
			{http.MethodPost, bfia.PathModelImport + "?unsigned=true", "text/plain", []byte("PK")},
			{http.MethodGet, bfia.PathDataQuery, "", nil},
			{http.MethodGet, bfia.PathWhoAmI, "", nil},
		} {
			status, text := send(e.method, e.path, e.kind, e.body, header)
			require.Equal(t, http.StatusForbidden, status, "%s %v: %s", e.path, header, text)
			require.Contains(t, text, "a party that knows a client by its certificate answers no", e.path)
		}
	}
	_, err = p.party.store.DataTable(t.Context(), "demo", "rows")
	require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))

	for _, header := range []map[string]string{{}, {"Sec-Fetch-Site": "none"},
		{"Origin": p.url, "Sec-Fetch-Site": "same-origin"}} {
		status, text := send(http.MethodGet, bfia.PathWhoAmI, "", nil, header)
		require.Equal(t, http.StatusOK, status, "%v: %s", header, text)
	}
	// A page has no token of another site, so a token proves that the user's own program asks.
	secret, row, err := clients.NewToken("ci", []identity.Role{identity.Viewer}, "test", nil)
	require.NoError(t, err)
	require.NoError(t, database.CreateToken(t.Context(), row))
	status, text := send(http.MethodGet, bfia.PathWhoAmI, "", nil,
		map[string]string{"Authorization": "Bearer " + secret, "Origin": "https://tool.example"})
	require.Equal(t, http.StatusOK, status, text)
}
