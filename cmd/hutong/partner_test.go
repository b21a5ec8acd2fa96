package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/certs"
)

// TestPartnerCommands checks what the commands send and print.
func TestPartnerCommands(t *testing.T) {
	cert, key, err := certs.SelfSigned(certs.Leaf{Node: "B"})
	require.NoError(t, err)
	parsed, err := certs.ParseCertificates(cert)
	require.NoError(t, err)
	pin := certs.PinOf(parsed[0])
	invitation := bfia.Invitation{Node: "B", Invited: "A", Address: "https://b:1", Fingerprint: pin.Hex(),
		Secret: "s", Until: time.Now().Add(time.Hour)}.Encode()
	success := respond(`{"code":0,"message":"success","data":{}}`)
	p := newParty(t, map[string]http.HandlerFunc{
		"POST " + bfia.PathPartnerInvite: data(bfia.PartnerInvited{Invitation: invitation,
			Fingerprint: pin.String(), Until: time.Now()}),
		"POST " + bfia.PathPartnerApply: data(bfia.PartnerApplied{NodeID: "B",
			Fingerprint: "OWN1 2345"}),
		"POST " + bfia.PathPartnerAccept: success,
		"POST " + bfia.PathPartnerRemove: success,
		"POST " + bfia.PathPartnerUpdate: data([]bfia.PartnerUpdated{{NodeID: "B"},
			{NodeID: "C", Failure: "connection refused"}}),
		"GET " + bfia.PathPartnerQuery: data([]bfia.PartnerView{{NodeID: "B", Source: "contract",
			State: bfia.ContractApplied, Applied: "partner", Auth: "mtls", Institution: "Bank B",
			Fingerprint: pin.String()}, {NodeID: "C", Source: "configuration", State: bfia.ContractApproved,
			Auth: "mtls"}, {NodeID: "D", Source: "contract", State: bfia.ContractInvited}}),
	})
	last := func() string {
		requests := p.requests()
		return requests[len(requests)-1].body
	}
	code, out, stderr := p.run(t, "partner", "invite", "B")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, out, invitation)
	require.Contains(t, out, pin.String())
	require.JSONEq(t, `{"node_id":"B","days":7}`, last())

	for _, what := range []string{invitation, "B"} {
		code, out, stderr = p.run(t, "partner", "accept", what)
		require.Equal(t, exitUsage, code, "nobody can answer")
		require.Contains(t, out, pin.String())
		require.Contains(t, stderr, "add --fingerprint")
		code, out, stderr = p.run(t, "partner", "accept", what, "--fingerprint", pin.String())
		require.Equal(t, exitOK, code, stderr)
		require.Equal(t, what == invitation, strings.Contains(out, "OWN1 2345"), "it is read next")
		require.Contains(t, last(), pin.String())
	}
	require.JSONEq(t, `{"node_id":"B","fingerprint":"`+pin.String()+`"}`, last())
	code, _, stderr = p.run(t, "partner", "accept", invitation[:40], "--fingerprint", pin.Hex())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "invitation: is not complete")
	code, _, stderr = p.run(t, "partner", "accept", "C", "--fingerprint", pin.Hex())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "C has not applied: its state is APPROVED")
	code, _, stderr = p.run(t, "partner", "accept", "D", "--fingerprint", pin.Hex())
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "D has not applied: its state is INVITED; an administrator of D accepts "+
		"your invitation first")
	code, _, stderr = p.run(t, "partner", "show", "X")
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, `this party has no partner "X"`)

	code, out, _ = p.run(t, "partner", "list")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, "Bank B")
	code, out, _ = p.run(t, "partner", "show", "B")
	require.Equal(t, exitOK, code)
	require.Contains(t, out, pin.String())

	code, out, stderr = p.run(t, "partner", "update")
	require.Equal(t, exitFailed, code)
	require.JSONEq(t, `{}`, last())
	require.Regexp(t, `(?m)^B +updated$`, out)
	require.Regexp(t, `(?m)^C +connection refused$`, out)
	require.Contains(t, stderr, "failed to update 1 of 2 partners")
	file := filepath.Join(t.TempDir(), "next.pem")
	require.NoError(t, os.WriteFile(file, append(key, cert...), 0o600))
	code, _, _ = p.run(t, "partner", "update", "B", "--next-certificate", file)
	require.Equal(t, exitFailed, code)
	var sent bfia.PartnerUpdate
	require.NoError(t, json.Unmarshal([]byte(last()), &sent))
	require.Equal(t, bfia.PartnerUpdate{NodeID: "B", NextCertificate: string(cert)}, sent, "never the key")
	require.NoError(t, os.WriteFile(file, key, 0o600))
	code, _, stderr = p.run(t, "partner", "update", "--next-certificate", file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "contains no certificate")
	code, _, _ = p.run(t, "partner", "remove", "B")
	require.Equal(t, exitOK, code)
	require.JSONEq(t, `{"node_id":"B"}`, last())
}

// TestCertCommands makes, renews and shows certificates.
func TestCertCommands(t *testing.T) {
	p := newParty(t, nil)
	file := filepath.Join(t.TempDir(), "node.pem")
	fingerprint := func(out string) string {
		for line := range strings.Lines(out) {
			if after, found := strings.CutPrefix(line, "fingerprint"); found {
				return strings.TrimSpace(after)
			}
		}
		t.Fatalf("no fingerprint in %s", out)
		return ""
	}
	code, first, stderr := p.run(t, "cert", "init", "A", file, "--host", "a.example.com,192.0.2.1")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, first, "hutong://A, A, a.example.com, 192.0.2.1")
	require.Contains(t, first, "in the file")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077)
	before, err := os.ReadFile(file)
	require.NoError(t, err)

	code, second, stderr := p.run(t, "cert", "init", "A", file)
	require.Equal(t, exitOK, code, stderr)
	require.Equal(t, fingerprint(first), fingerprint(second), "a renewed certificate keeps its key")
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotEqual(t, before, after)
	code, shown, _ := p.run(t, "cert", "show", file)
	require.Equal(t, exitOK, code)
	require.Equal(t, second, shown)

	code, request, stderr := p.run(t, "cert", "csr", "A", file)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, request, "BEGIN CERTIFICATE REQUEST")
	key := filepath.Join(t.TempDir(), "new.key")
	code, _, stderr = p.run(t, "cert", "csr", "A", key)
	require.Equal(t, exitOK, code, stderr)
	require.FileExists(t, key)

	require.NoError(t, os.WriteFile(key, []byte("something else"), 0o600))
	code, _, stderr = p.run(t, "cert", "init", "A", key)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "which is not replaced")
	code, _, stderr = p.run(t, "cert", "init", "not a node", key)
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "NODE:")
}
