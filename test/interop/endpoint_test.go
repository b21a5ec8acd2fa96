package interop

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// endpoint speaks to one party's own endpoints, as its operator would.
type endpoint struct{ url string }

// answer is an envelope with the fields that FATE-Flow adds to it.
type answer struct {
	bfia.Envelope
	Status map[string]bfia.TaskState `json:"status"`
	raw    string
}

// request sends a request. An answer that is not JSON fails the test.
func (c endpoint) request(t *testing.T, method, path string, body any) answer {
	t.Helper()
	payload, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		payload, err = json.Marshal(body)
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	sent, err := apiclient.Send(ctx, method, c.url+path, payload)
	require.NoError(t, err)
	a := answer{Envelope: sent.Envelope, raw: string(sent.Body)}
	var extra struct {
		Status map[string]bfia.TaskState `json:"status"`
	}
	if json.Unmarshal(sent.Body, &extra) == nil {
		a.Status = extra.Status
	}
	return a
}

// mustRequest sends a request that must succeed, and decodes the answer's data.
func (c endpoint) mustRequest(t *testing.T, method, path string, body, data any) {
	t.Helper()
	a := c.request(t, method, path, body)
	require.True(t, a.OK(), "%s %s: %s", method, path, a.raw)
	if data != nil {
		require.NoError(t, json.Unmarshal(a.Data, data), "%s %s: %s", method, path, a.raw)
	}
}

// submit submits a job and returns its id.
func (c endpoint) submit(t *testing.T, document []byte) string {
	t.Helper()
	var created bfia.JobCreated
	c.mustRequest(t, http.MethodPost, bfia.PathPlatformCreateAll, document, &created)
	require.NotEmpty(t, created.JobID)
	return created.JobID
}
