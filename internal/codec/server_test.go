package codec

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"hutong/internal/identity"
)

const ui = "https://temporal.bank.example"

// byName is an authenticator of clients by the header Authorization.
func byName(r *http.Request) (identity.Principal, error) {
	switch r.Header.Get("Authorization") {
	case "Bearer viewer":
		return identity.Principal{Kind: identity.KindClient, Name: "v",
			Roles: []identity.Role{identity.Viewer}}, nil
	case "Bearer uploader":
		return identity.Principal{Kind: identity.KindClient, Name: "u",
			Roles: []identity.Role{identity.Data}}, nil
	case "":
		return identity.Principal{}, nil
	}
	return identity.Principal{}, errors.New("unknown token")
}

func TestHandler(t *testing.T) {
	c := open(t, Source{Dir: newDir(t, "k1", AES256GCM)}).Codec()
	server := httptest.NewServer(Handler(c, []string{ui}, byName))
	t.Cleanup(server.Close)
	encrypted, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{
		encode(t, c, payload(t, canary)), payload(t, "plain")}})
	require.NoError(t, err)
	ask := func(method, path, token, origin, contentType, body string) (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		for name, value := range map[string]string{"Authorization": token, "Origin": origin,
			"Content-Type": contentType} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		content, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response, string(content)
	}

	const json = "application/json"
	for _, x := range []struct {
		name, method, path, token, origin, contentType, body string
		status                                               int
	}{
		{"no credentials", "POST", "/decode", "", ui, json, string(encrypted), 401},
		{"wrong credentials", "POST", "/decode", "Bearer x", ui, json, string(encrypted), 401},
		{"without the role", "POST", "/decode", "Bearer uploader", ui, json, string(encrypted), 403},
		{"another page", "POST", "/decode", "Bearer viewer", "https://evil.example", json, string(encrypted),
			403},
		{"preflight of another page", "OPTIONS", "/decode", "", "https://evil.example", "", "", 403},
		{"form", "POST", "/decode", "Bearer viewer", ui, "text/plain", string(encrypted), 415},
		{"encrypts for nobody", "POST", "/encode", "Bearer viewer", ui, json, string(encrypted), 404},
		{"GET", "GET", "/decode", "Bearer viewer", ui, "", "", 405},
		{"no JSON", "POST", "/decode", "Bearer viewer", ui, json, "{", 400},
		{"too large", "POST", "/decode", "Bearer viewer", ui, json, strings.Repeat(" ", maxRequest+1), 400},
	} {
		t.Run(x.name, func(t *testing.T) {
			response, content := ask(x.method, x.path, x.token, x.origin, x.contentType, x.body)
			assert.Equal(t, x.status, response.StatusCode, content)
			assert.NotContains(t, content, canary)
			if x.origin != ui {
				assert.Empty(t, response.Header.Get("Access-Control-Allow-Origin"))
			}
		})
	}

	response, _ := ask("OPTIONS", "/decode", "", ui, "", "")
	assert.Equal(t, 204, response.StatusCode)
	assert.Equal(t, ui, response.Header.Get("Access-Control-Allow-Origin"))
	assert.Contains(t, response.Header.Get("Access-Control-Allow-Headers"), "Authorization")
	for _, origin := range []string{ui, ""} { // "": the command line
		response, content := ask("POST", "/decode", "Bearer viewer", origin, json, string(encrypted))
		require.Equal(t, 200, response.StatusCode, content)
		assert.Equal(t, origin, response.Header.Get("Access-Control-Allow-Origin"))
		assert.Equal(t, "no-store", response.Header.Get("Cache-Control"))
	}

	// Temporal's own client of such endpoints reads it.
	remote := converter.NewRemotePayloadCodec(converter.RemotePayloadCodecOptions{Endpoint: server.URL,
		ModifyRequest: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer viewer")
			return nil
		}})
	out, err := remote.Decode([]*commonpb.Payload{encode(t, c, payload(t, canary))})
	require.NoError(t, err)
	var value string
	require.NoError(t, converter.GetDefaultDataConverter().FromPayload(out[0], &value))
	assert.Equal(t, canary, value)
}
