package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/audit"
	"hutong/internal/certs"
	"hutong/internal/evidence"
)

// TestEvidenceWithArchivedTrail verifies archives of evidence whose party may have archived entries about the
// job: the output says that they may be missing, and a comparison does not agree.
func TestEvidenceWithArchivedTrail(t *testing.T) {
	const document = `{"flow_id":"f"}`
	content, err := evidence.ContentDigest([]byte(document))
	require.NoError(t, err)
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.Local)
	write := func(node string, base *audit.Base) string {
		cert, key, err := certs.SelfSigned(certs.Leaf{Node: node})
		require.NoError(t, err)
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, evidence.Write(&b, evidence.Facts{NodeID: node, JobID: "42", CreatedAt: at,
			DocumentSHA256: evidence.Digest([]byte(document)), ContentSHA256: content,
			Parts: []evidence.Part{{Task: "psi", TaskID: "t"}}, TransfersComplete: true,
			TrailHead: audit.Head{Seq: 9, Hash: audit.Genesis}, TrailArchived: base}, []byte(document), nil,
			certs.Signer{Key: pair.PrivateKey.(crypto.Signer), Chain: []*x509.Certificate{pair.Leaf}}))
		return file(t, b.String())
	}
	verify := func(names ...string) (status int, stdout string) {
		args := append([]string{"evidence", "verify"}, names...)
		status, stdout, _ = runMain(t, t.Context(), nil, "", args...)
		return status, stdout
	}
	a, b := write("A", nil), write("B", nil)
	status, stdout := verify(a, b)
	require.Equal(t, exitOK, status, stdout)
	require.NotContains(t, stdout, "archived")

	b = write("B", &audit.Base{Head: audit.Head{Seq: 5, Hash: audit.Genesis}, Time: at})
	status, stdout = verify(b)
	require.Equal(t, exitOK, status, stdout)
	require.Contains(t, stdout, "audit entries and approvals may be missing: the party has archived its entries "+
		"up to 5 (2026-01-02 12:00:00)")
	status, stdout = verify(a, b)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stdout, "DIFFER B: entries and approvals may be missing, since the entries up to 5")
}
