package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

// trailOf returns an endpoint that serves a trail in pages, and a trail of n entries.
func trailOf(n int) (http.HandlerFunc, []audit.Entry) {
	var list []audit.Entry
	var head audit.Head
	for range n {
		e := audit.New(identity.Principal{Kind: identity.KindClient, Name: "alice", Address: "192.0.2.1"},
			audit.Submit, audit.Object{Kind: audit.Job, ID: "42"}, audit.Allowed, time.Unix(1800000000, 0))
		head = e.Link(head)
		list = append(list, e)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		page := list[min(after, len(list)):min(after+limit, len(list))]
		data(map[string]any{"entries": page, "head": head})(w, r)
	}, list
}

func TestAuditCommands(t *testing.T) {
	const n = trailPageSize + 7
	serve, list := trailOf(n)
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathAuditQuery: serve})

	status, stdout, stderr := p.run(t, "audit", "list", "--limit", "2", "--object", "job:42")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "client alice")
	require.Contains(t, stdout, "job 42")
	status, stdout, _ = p.run(t, "audit", "list", "--limit", "2", "-o", "json")
	require.Equal(t, exitOK, status)
	var shown []audit.Entry
	require.NoError(t, json.Unmarshal([]byte(stdout), &shown))
	require.Equal(t, list[:2], shown)

	status, stdout, stderr = p.run(t, "audit", "verify")
	require.Equal(t, exitOK, status, stderr)
	head := audit.Head{Seq: n, Hash: list[n-1].Hash}.String()
	require.Equal(t, strconv.Itoa(n)+" entries, unaltered and without gaps; head "+head+"\n", stdout)

	export := filepath.Join(t.TempDir(), "trail.jsonl")
	status, _, stderr = p.run(t, "audit", "export", "-o", export)
	require.Equal(t, exitOK, status, stderr)
	status, _, stderr = p.run(t, "audit", "verify", "--head", head, export)
	require.Equal(t, exitOK, status, stderr)
	text, err := os.ReadFile(export)
	require.NoError(t, err)
	lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	require.Len(t, lines, n)
	require.NoError(t, os.WriteFile(export, []byte(strings.Join(lines[:n-2], "")), 0o600))
	status, _, stderr = p.run(t, "audit", "verify", "--head", head, export)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "its end was cut off")
	require.NoError(t, os.WriteFile(export, []byte(strings.Replace(string(text), "alice", "bob", 1)), 0o600))
	status, _, stderr = p.run(t, "audit", "verify", export)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "broken at entry 1")

	list[3].Reason = "changed by the party"
	status, _, stderr = p.run(t, "audit", "verify")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "broken at entry 4")

	status, _, stderr = p.run(t, "audit", "verify", "--head", "x")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, `"x" is not the head of an audit trail`)
}
