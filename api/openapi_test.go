package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// document returns the OpenAPI document, loaded once.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	return doc, err
})

// described requires that the document allows an answer's status, media type and content.
func described(t testing.TB, req *http.Request, resp *http.Response, body []byte) {
	t.Helper()
	doc, err := document()
	require.NoError(t, err)
	item := doc.Paths.Value(req.URL.Path)
	if item == nil || item.GetOperation(req.Method) == nil || req.Method == http.MethodHead {
		return // other tests cover requests that no route accepts
	}
	op := item.GetOperation(req.Method)
	response := op.Responses.Status(resp.StatusCode)
	if response == nil && (resp.StatusCode == http.StatusUnauthorized ||
		resp.StatusCode == http.StatusForbidden) {
		response = op.Responses.Default() // each endpoint refuses callers who may not use it
	}
	require.NotNil(t, response, "%s %s answers %d, which openapi.json does not have: %s", req.Method,
		req.URL.Path, resp.StatusCode, body)
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	require.NoError(t, err)
	media := response.Value.Content[kind]
	require.NotNil(t, media, "%s %s answers %d with %s, which openapi.json does not have", req.Method,
		req.URL.Path, resp.StatusCode, kind)
	if kind != "application/json" {
		return
	}
	var value any
	require.NoError(t, json.Unmarshal(body, &value), "%s", body)
	require.NoError(t, doc.ValidateSchemaJSON(media.Schema.Value, value), "%s %s answers %d: %s", req.Method,
		req.URL.Path, resp.StatusCode, body)
}

func TestDocumentIsValid(t *testing.T) {
	doc, err := document()
	require.NoError(t, err)
	require.True(t, doc.IsOpenAPI31OrLater())
	require.NoError(t, doc.Validate(t.Context(), openapi3.EnableExamplesValidation(),
		openapi3.EnableSchemaDefaultsValidation()))
}

// TestDocumentOfRegistrations checks that the document allows the registrations that the API accepts.
func TestDocumentOfRegistrations(t *testing.T) {
	doc, err := document()
	require.NoError(t, err)
	schema := doc.Components.Schemas["Registration"].Value
	for _, c := range []struct{ device, metadata, refused string }{
		{"docker", `{"image": "a:1"}`, ""},
		{"k8s", `{"image": "a:1", "session": "task"}`, ""},
		{"process", `{"command": ["/a", "b"], "session": "job", "requires": {"gpu": "1"}}`, ""},
		{"mainframe", `{}`, "device:"},
		{"k8s", `{"image": "a:1", "session": "party"}`, "metadata.session:"},
	} {
		body := []byte(`{"name": "p", "version": "1", "device": "` + c.device +
			`", "metadata": ` + c.metadata + `, "components_description": {"C": {"componentName": "C", "title": "", "provider": "p",
			"version": "1", "roleList": ["guest"], "storageEngine": [], "inputParam": [], "inputData": [],
			"outputData": [], "result": []}}}`)
		var value any
		require.NoError(t, json.Unmarshal(body, &value))
		_, parsed := bfia.ParseRegistration(body)
		described := doc.ValidateSchemaJSON(schema, value)
		if c.refused == "" {
			require.NoError(t, parsed, "%s", body)
			require.NoError(t, described, "%s", body)
			continue
		}
		require.ErrorContains(t, parsed, c.refused)
		require.Error(t, described, "%s", body)
	}
	require.NotNil(t, schema.Properties["metadata"].Value.Properties["session"])
}

// The document describes exactly the routes.
func TestDocumentHasTheRoutes(t *testing.T) {
	doc, err := document()
	require.NoError(t, err)
	served := map[string]bool{}
	for _, r := range (&Server{}).routes() {
		name := r.method + " " + r.path
		require.False(t, served[name], "%s is in the table twice", name)
		served[name] = true
	}
	ids := map[string]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			require.True(t, served[name], "%s is described and not served", name)
			delete(served, name)
			require.NotEmpty(t, op.Summary, name)
			require.NotEmpty(t, op.Description, name)
			require.Empty(t, ids[op.OperationID], "%s has the operationId of %s", name, ids[op.OperationID])
			ids[op.OperationID] = name
			require.Equal(t, method == http.MethodPost, op.RequestBody != nil, name)
		}
	}
	require.Empty(t, served, "served and not described")
}

// The schemas of answers are closed: an additional field, or one of the other dialect, is rejected.
func TestDocumentRefusesOtherAnswers(t *testing.T) {
	doc, err := document()
	require.NoError(t, err)
	answer := doc.Paths.Value(bfia.PathPlatformStatusAll).Get.Responses.Status(200).Value
	schema := answer.Content["application/json"].Schema.Value
	const good = `{"code":0,"msg":"success","job_status":"READY","status":{"t":"READY"},"data":{"job_id":"1","flow_id":"","job_status":"READY",
		"status":{},"reason":"","scheduler":"A","created_at":"2026-11-23T04:12:00Z","started_at":null,"ended_at":null,"tasks":[]}}`
	check := func(text string) error {
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		return doc.ValidateSchemaJSON(schema, value)
	}
	require.NoError(t, check(good))
	for _, change := range [][2]string{{`"msg"`, `"message"`}, {`"code":0`, `"code":1`},
		{`"READY",`, `"DONE",`}, {`"reason":"",`, ``},
		{`"tasks"`, `"more":1,"tasks"`}, {`"status":{"t":"READY"},`, ``}, {`"created_at":"`,
			`"created_at":"x`}} {
		require.Contains(t, good, change[0])
		require.Error(t, check(strings.Replace(good, change[0], change[1], 1)), "%s", change)
	}
}

func TestDocumentIsServed(t *testing.T) {
	p := newParty(t)
	r := p.send(get(bfia.PathOpenAPI))
	require.Equal(t, 200, r.Status)
	require.True(t, bytes.Equal(openAPIDocument, r.Body))
}

// The server accepts the document's own examples of requests.
func TestDocumentExamplesAreTaken(t *testing.T) {
	p := newParty(t, func(c *Config) { c.CheckDatasets = false })
	doc, err := document()
	require.NoError(t, err)
	example := func(path string) any {
		return doc.Paths.Value(path).Post.RequestBody.Value.Content["application/json"].Example
	}
	p.file("visits.csv", "id,age\n17,40\n18,41\n")
	p.good(post(bfia.PathProviderRegister, example(bfia.PathProviderRegister)))
	p.good(post(bfia.PathComponentRegister, example(bfia.PathComponentRegister)))
	p.good(post(bfia.PathComponentUpload, example(bfia.PathComponentUpload)))
	p.good(post(bfia.PathPlatformCreateAll, example(bfia.PathPlatformCreateAll)))
	p.good(post(bfia.PathCreateAll, example(bfia.PathCreateAll)))
	p.good(post(bfia.PathCreate, example(bfia.PathCreate)))
	for _, path := range []string{bfia.PathStart, bfia.PathTaskStart, bfia.PathStop, bfia.PathStopAll,
		bfia.PathStatusAll} {
		p.good(post(path, example(path)))
	}
	p.good(post(bfia.PathProviderDelete, example(bfia.PathProviderDelete)))
}
