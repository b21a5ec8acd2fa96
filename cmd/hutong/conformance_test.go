package main

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/bfia/conformance"
)

func TestConformanceCommand(t *testing.T) {
	yes := respond(`{"code":0,"msg":"success","data":{"node_id":"N"}}`)
	answers := map[string]http.HandlerFunc{"GET " + bfia.PathHealth: yes}
	for _, c := range conformance.Checks() {
		answers[c.Endpoint] = yes
	}
	p := newParty(t, answers)
	status, stdout, stderr := p.run(t, "conformance")
	assert.Equal(t, exitFailed, status, "accepting everything does not conform")
	assert.Contains(t, stdout, "ENDPOINT")
	assert.Regexp(t, `2/3\.8 +FAIL +is accepted: HTTP 200`, stdout)
	assert.Contains(t, stderr, "failed")

	_, stdout, _ = p.run(t, "conformance", "--node", "N", "--json")
	var rows []map[string]string
	require.NoError(t, json.Unmarshal([]byte(stdout), &rows))
	require.Len(t, rows, len(conformance.Checks()))
	require.NotEmpty(t, rows[0]["endpoint"])
	_, stdout, _ = p.run(t, "conformance", "--node", "N", "--markdown")
	assert.Contains(t, stdout, "| --- |")

	foreign := newParty(t, nil)
	status, _, stderr = foreign.run(t, "conformance")
	assert.Equal(t, exitUsage, status)
	assert.Contains(t, stderr, "--node is required")
	status, _, stderr = p.run(t, "conformance", "--job", file(t, `{"dag":7}`))
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stderr, "the job: dag: is a JSON number")
}
