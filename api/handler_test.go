package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/identity"
)

// TestPartnerHandler checks the endpoints for partners behind a server that has proved the caller.
func TestPartnerHandler(t *testing.T) {
	p := newParty(t).withProvider().withData()
	handler := p.server.PartnerHandler()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if node := r.Header.Get("proved"); node != "" {
			ctx = identity.With(ctx, identity.Principal{Kind: identity.KindPartner, Node: node,
				Proof: identity.ByCertificate, Address: "192.0.2.1"})
		}
		handler.ServeHTTP(w, r.WithContext(ctx))
	}))
	defer front.Close()
	send := func(method, path, proved string, body io.Reader) (int, http.Header, bfia.Envelope) {
		req, err := http.NewRequestWithContext(t.Context(), method, front.URL+path, body)
		require.NoError(t, err)
		if proved != "" {
			req.Header.Set("proved", proved)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		var envelope bfia.Envelope
		if method != http.MethodHead {
			require.NoError(t, json.Unmarshal(text, &envelope), string(text))
		}
		return resp.StatusCode, resp.Header, envelope
	}

	document := job(t, "j1")
	for name, body := range map[string]io.Reader{"with a length": strings.NewReader(document),
		"in chunks": io.MultiReader(strings.NewReader(document))} {
		status, header, answer := send(http.MethodPost, bfia.PathCreate, guest, body)
		require.Equal(t, http.StatusOK, status, "%s: %s", name, answer.Text())
		require.True(t, answer.OK())
		require.Equal(t, "application/json", header.Get("Content-Type"))
	}
	_, _, answer := send(http.MethodPost, bfia.PathTaskPoll, guest,
		strings.NewReader(`{"task_id":"none","role":""}`))
	require.Equal(t, bfia.CodeNotFound, answer.Code, answer.Text())
	status, _, _ := send(http.MethodGet, bfia.PathHealth, "", nil)
	require.Equal(t, http.StatusOK, status)
	status, _, _ = send(http.MethodHead, bfia.PathHealth, "", nil)
	require.Equal(t, http.StatusOK, status)

	_, _, answer = send(http.MethodPost, bfia.PathCreate, "", strings.NewReader(document))
	require.Equal(t, bfia.CodeUnauthenticated, answer.Code)
	_, _, answer = send(http.MethodPost, bfia.PathProviderRegister, host, strings.NewReader(`{}`))
	require.Equal(t, bfia.CodeNotFound, answer.Code, "an endpoint for clients")
	_, _, answer = send(http.MethodGet, bfia.PathCreate, guest, nil)
	require.Equal(t, bfia.CodeMethod, answer.Code)
	large := bytes.Repeat([]byte(" "), int(p.server.MaxDocumentBytes)+1)
	for name, body := range map[string]io.Reader{"with a length": bytes.NewReader(large),
		"in chunks": io.MultiReader(bytes.NewReader(large))} {
		_, _, answer = send(http.MethodPost, bfia.PathCreate, guest, body)
		require.Equal(t, bfia.CodeTooLarge, answer.Code, name)
	}
	status, _, _ = send(http.MethodGet, bfia.PathHealth, "", nil)
	require.Equal(t, http.StatusOK, status, "after it")
}
