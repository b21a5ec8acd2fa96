package system

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/party"
	"hutong/store"
	"hutong/test/testenv"
)

// TestPermits has a party ask a partner for a dataset, over mutual TLS: its job is refused before the
// partner's approval, runs with the permit, and is refused after the end. Another partner that has stolen
// the permit is refused too.
func TestPermits(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, func(cfg *party.Config) {
		cfg.Routes[attackerNode] = party.Route{URL: "https://" + testenv.FreeAddress(t)}
		if cfg.NodeID == hostNode {
			cfg.Grants = party.GrantsPermits
		}
	})
	pair.host.upload("host.csv", "bank", "train")
	document := sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)},
		map[string]map[string]any{"host": {"s1": map[string]any{"dataset_id": "bank#train"}}})
	refused := func(words ...string) {
		t.Helper()
		jobID := bfia.NewJobID(time.Now(), 5)
		body := []byte(withJobID(t, document, jobID))
		env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, body)
		require.Equal(t, http.StatusForbidden, status, env.Text())
		var check bfia.JobCheck
		pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformCheck, body, &check)
		for _, w := range words {
			require.Contains(t, env.Text(), w)
			require.Contains(t, check.Parties[len(check.Parties)-1].Reason, w)
		}
		requireNoRows(t, pair.host, jobID)
	}
	request := func(args ...string) string {
		t.Helper()
		out := pair.guest.mustCommand(append([]string{"grant", "request", "--partner", hostNode, "--dataset",
			"bank#train"}, args...)...)
		_, rest, found := strings.Cut(out, "has the request ")
		require.True(t, found, out)
		id, _, found := strings.Cut(rest, ";")
		require.True(t, found, out)
		return id
	}
	listed := func(n *testParty, id string) bfia.GrantRequestView {
		t.Helper()
		var views []bfia.GrantRequestView
		require.NoError(t, json.Unmarshal([]byte(n.mustCommand("grant", "requests", "--json")), &views))
		for _, v := range views {
			if v.AuditID == id {
				return v
			}
		}
		t.Fatalf("request %s is not listed at %s", id, n.cfg.NodeID)
		return bfia.GrantRequestView{}
	}
	run := func() string {
		t.Helper()
		jobID := pair.guest.submit(document)
		requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
		return jobID
	}

	// Ask. A request alone lets nothing run.
	first := request("--component", "test/Sleep")
	for _, n := range []*testParty{pair.guest, pair.host} {
		v := listed(n, first)
		require.Equal(t, bfia.RequestApplied, v.State)
		require.Equal(t, n == pair.guest, v.Sent)
		require.Equal(t, []string{"test/Sleep"}, v.Components)
	}
	refused("partner: " + guestNode + " has no grant at " + hostNode)

	// Denied, then approved.
	denied := request()
	pair.host.mustCommand("grant", "deny", denied)
	require.Equal(t, bfia.RequestRejected, listed(pair.guest, denied).State)
	refused("partner: " + guestNode + " has no grant at " + hostNode)
	require.Contains(t, pair.host.mustCommand("grant", "approve", first, "--times", "3"),
		"which has its permit")
	for _, n := range []*testParty{pair.guest, pair.host} {
		v := listed(n, first)
		require.Equal(t, bfia.RequestApproved, v.State)
		require.True(t, v.Permit)
		require.Equal(t, 3, v.Times)
	}
	jobID := run()

	// Another partner presents the guest's permit, in a job of its own.
	permits, err := pair.guest.database().Permits(t.Context(),
		map[string]bool{hostNode + "/bank#train": true})
	require.NoError(t, err)
	require.Len(t, permits, 1)
	stolen := editJSON(t, document, func(f map[string]any) {
		f["job_id"] = "stolen"
		config := f["config"].(map[string]any)
		config["initiator"] = map[string]string{"role": "guest", "node_id": attackerNode}
		config["role"].(map[string]any)["guest"] = []string{attackerNode}
	})
	answer := pair.sendAs(attackerNode, pair.host, bfia.PathCreate, string(stolen), permits)
	require.Equal(t, bfia.CodeForbidden, answer.Code, answer.Text())
	require.Contains(t, answer.Text(),
		"x-mprac-token-set: the permit for "+hostNode+":DATASET:bank#train is not "+
			"one that "+hostNode+" has given to "+attackerNode)
	requireNoRows(t, pair.host, "stolen")
	// Nor does it end or see the guest's request.
	ref := `{"audit_id":"` + first + `"}`
	require.Equal(t, bfia.CodeNotFound,
		pair.sendAs(attackerNode, pair.host, bfia.PathDatasetTerminate, ref, nil).Code)
	require.Equal(t, bfia.CodeNotFound, pair.sendAs(attackerNode, pair.guest, bfia.PathDatasetConfirm,
		`{"audit_id":"`+first+`","status":"REJECTED"}`, nil).Code)
	run()

	// The end.
	pair.host.mustCommand("grant", "terminate", first)
	require.Equal(t, bfia.RequestTerminated, listed(pair.guest, first).State)
	refused("grant: that of "+guestNode, "was revoked at")
	answer = pair.sendAs(guestNode, pair.host, bfia.PathCreate, withJobID(t, document, "replayed"), permits)
	require.Equal(t, bfia.CodeForbidden, answer.Code, "the guest kept the permit")

	// What an administrator grants without a request needs no permit.
	pair.host.mustCommand("grant", "add", "--partner", guestNode, "--component", "Sleep", "--dataset", "*")
	run()

	// Every act has an entry, and the permit is in none of them.
	acts := map[string]bool{}
	entries, err := pair.host.database().AuditEntries(t.Context(), store.AuditFilter{})
	require.NoError(t, err)
	for _, e := range entries {
		acts[e.Act+" "+string(e.Outcome)] = true
		require.NotContains(t, e.Reason, permits[0].Token)
	}
	for _, act := range []string{audit.PartnerGrantApply, audit.ApproveGrant, audit.DenyGrant,
		audit.TerminateGrant} {
		require.True(t, acts[act+" "+string(audit.Allowed)], act)
	}
	require.True(t, acts[audit.PartnerCreate+" "+string(audit.Refused)])
	require.Empty(t, pair.host.rowsWith(permits[0].Token), "the giver keeps a hash")
	require.Empty(t, pair.guest.rowsWith(permits[0].Token), "the asker has deleted the permit")
	require.NotEmpty(t, jobID)
}

// sendAs sends a command over mutual TLS with a certificate of a node.
func (pair *partyPair) sendAs(node string, to *testParty, path, body string, permits []bfia.Permit,
) bfia.Envelope {
	t := to.t
	t.Helper()
	dir := filepath.Dir(to.cfg.Partners.TLS.CAFile)
	authority, _, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), node+".pem")
	require.NoError(t, authority.IssueFile(file, certs.Leaf{Node: node}))
	certificate, err := tls.LoadX509KeyPair(file, file)
	require.NoError(t, err)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		"https://"+to.cfg.Partners.Listen+path, strings.NewReader(body))
	require.NoError(t, err)
	bfia.SetHeaders(req.Header, node, to.cfg.NodeID, "test", time.Now())
	req.Header.Set(bfia.HeaderTokenSet, bfia.FormatTokenSet(permits))
	resp, err := (&http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: settings}}).Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var env bfia.Envelope
	require.NoError(t, json.Unmarshal(answer, &env), string(answer))
	return env
}
