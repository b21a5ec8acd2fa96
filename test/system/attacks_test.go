package system

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
	"hutong/internal/party"
	"hutong/test/testenv"
)

const attackerNode = "JG0100006600000000"

// TestPartnerWithoutAPart attacks a running job as a partner with a certificate of its own and no part in the
// job, which names another party in its headers. Everything is refused, and the job ends well.
func TestPartnerWithoutAPart(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Routes[attackerNode] = party.Route{URL: "https://" + testenv.FreeAddress(t)}
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	dir := filepath.Dir(pair.guest.cfg.Partners.TLS.CAFile)
	authority, _, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	file := filepath.Join(dir, attackerNode+".pem")
	require.NoError(t, authority.IssueFile(file, certs.Leaf{Node: attackerNode}))
	certificate, err := tls.LoadX509KeyPair(file, file)
	require.NoError(t, err)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true}
	attacker := &http.Client{Timeout: 30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: settings}}
	attack := func(n *testParty, path, claim, body string, headers ...string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			"https://"+n.cfg.Partners.Listen+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if claim != "" {
			req.Header.Set("x-source-node-id", claim)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := attacker.Do(req)
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(answer)
	}

	document := sleepJob(t, 2, map[string]any{"s1": seconds(8), "s2": seconds(0)}, nil)
	jobID := pair.guest.submit(document)
	pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("s1"))
	task := bfia.TaskID(jobID, "s1")
	job := fmt.Sprintf(`{"job_id":%q,"task_id":%q,"task_name":"s1","role":"host.0","status":"SUCCESS"}`, jobID,
		task)
	decision := fmt.Sprintf(`{"job_id":%q,"status":"REJECTED"}`, jobID)
	for _, claim := range []string{"", attackerNode, guestNode, hostNode} {
		for _, a := range []struct {
			at         *testParty
			path, body string
		}{
			{pair.guest, bfia.PathStopAll, job}, {pair.guest, bfia.PathStatusAll, job},
			{pair.guest, bfia.PathTaskCallback, job}, {pair.guest, bfia.PathAuditConfirm, decision},
			{pair.guest, bfia.PathPriority, job}, {pair.guest, bfia.PathCapacityHint, job},
			{pair.host, bfia.PathStart, job}, {pair.host, bfia.PathTaskStart, job},
			{pair.host, bfia.PathTaskStop, job}, {pair.host, bfia.PathTaskPoll, job},
			{pair.host, bfia.PathReserve, job}, {pair.host, bfia.PathRelease, job},
			{pair.guest, bfia.PathCreateAll, withJobID(t, document, "stolen")},
			{pair.host, bfia.PathCreate, withJobID(t, document, "stolen")},
		} {
			var env bfia.Envelope
			answer := attack(a.at, a.path, claim, a.body)
			require.NoError(t, json.Unmarshal([]byte(answer), &env), answer)
			require.Contains(t, []bfia.Code{bfia.CodeForbidden, bfia.CodeNotFound}, env.Code, "%s as %q: %s",
				a.path, claim, answer)
		}
		// job/stop of a job that one has no part in is answered like that of one that does not exist.
		for _, undo := range []string{"", `,"undo":true`} {
			known := attack(pair.host, bfia.PathStop, claim, fmt.Sprintf(`{"job_id":%q%s}`, jobID, undo))
			unknown := attack(pair.host, bfia.PathStop, claim, `{"job_id":"none"`+undo+`}`)
			if claim == "" || claim == attackerNode {
				require.Equal(t, unknown, known)
			}
		}
		for _, session := range []string{bfia.SessionID(jobID), bfia.SessionID(jobID) + "_x",
			bfia.SessionID("none")} {
			answer := attack(pair.host, "/v1/interconn/chan/invoke", claim, `{"topic":"x","payload":"bQ=="}`,
				"x-ptp-session-id", session, "x-ptp-target-node-id", hostNode, "x-ptp-version", "1",
				"x-ptp-source-node-id", guestNode, "x-ptp-uri", "/v1/interconn/chan/push")
			require.NotContains(t, answer, `"E0000000000"`, session)
		}
		// What only the party's own containers and processes may do is not served to partners.
		for _, op := range []string{"pop", "peek", "release"} {
			answer := attack(pair.host, "/v1/interconn/chan/"+op, claim, `{"topic":""}`,
				"x-ptp-session-id", bfia.SessionID(jobID), "x-ptp-final", "true")
			require.NotContains(t, answer, `"E0000000000"`, op)
		}
	}
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	requireSuccess(t, pair.host.awaitJob(jobID, time.Minute, isFinished))
}

// withJobID returns a job's document under an id.
func withJobID(t *testing.T, document []byte, id string) string {
	t.Helper()
	return string(editJSON(t, document, func(f map[string]any) { f["job_id"] = id }))
}
