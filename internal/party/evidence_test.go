package party

import (
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
)

// TestKnownSigner checks whose signatures a party knows: its own by its present key, also under a renewed
// certificate, and by certificates of its authority that name it; those of its partners; of nobody else.
func TestKnownSigner(t *testing.T) {
	const node, partner, pinned = "JG0100001100000010", "JG0110017800000000", "JG0199999900000000"
	dir := t.TempDir()
	authority, caFile, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	strangers, _, err := certs.OpenAuthority(t.TempDir(), "test")
	require.NoError(t, err)
	issued := func(a *certs.Authority, node string) (file string, chain []*x509.Certificate) {
		file = filepath.Join(t.TempDir(), "node.pem")
		require.NoError(t, a.IssueFile(file, certs.Leaf{Node: node}))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		chain, err = certs.ParseCertificates(text)
		require.NoError(t, err)
		return file, chain
	}
	file, own := issued(authority, node)
	_, before := issued(authority, node) // another key of the party
	_, theirs := issued(authority, partner)
	_, pinnedKey := issued(strangers, pinned)
	_, stranger := issued(strangers, node)

	cfg := Default()
	cfg.NodeID, cfg.DataDir = node, t.TempDir()
	cfg.Partners.TLS = PartnerTLSConfig{CertFile: file, KeyFile: file, CAFile: caFile}
	cfg.Routes = Routes{partner: {URL: "https://b.example"}, pinned: {URL: "https://c.example",
		TLS: RouteTLS{SPKI: []string{certs.PinOf(pinnedKey[0]).Hex()}}}}
	require.NoError(t, cfg.Complete())
	p := &Party{cfg: cfg, logger: slog.New(slog.DiscardHandler)}
	require.NoError(t, p.openPartners())
	for want, chains := range map[string][][]*x509.Certificate{
		node: {own, before}, partner: {theirs}, pinned: {pinnedKey}} {
		for _, chain := range chains {
			by, err := p.knownSigner(chain)
			require.NoError(t, err)
			require.Equal(t, want, by)
		}
	}
	_, err = p.knownSigner(stranger)
	require.ErrorContains(t, err, "the certificate belongs to no partner")

	// A party without a certificate for partners signs with a key of its own, which stays the same.
	cfg.Partners.TLS = PartnerTLSConfig{}
	cfg.Routes = nil
	p = &Party{cfg: cfg, logger: slog.New(slog.DiscardHandler)}
	require.NoError(t, p.openPartners())
	signer, err := cfg.signer()
	require.NoError(t, err)
	again, err := certs.SelfSignedFor(signer.Key, certs.Leaf{Node: "other"})
	require.NoError(t, err)
	renewed, err := certs.ParseCertificates(again)
	require.NoError(t, err)
	require.False(t, time.Now().After(renewed[0].NotAfter))
	by, err := p.knownSigner(renewed)
	require.NoError(t, err)
	require.Equal(t, node, by)
	_, err = p.knownSigner(own)
	require.Error(t, err, "the key of before")
}
