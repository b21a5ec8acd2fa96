package party

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/certs"
	"hutong/internal/partners"
)

// TestPartnerRoutes checks that a route without what proves the partner is refused, with the field and the
// remedy.
func TestPartnerRoutes(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	for _, test := range []struct {
		name, document string
		errs           []string // none: valid
	}{
		{"mutual TLS", `
partners: {listen: "0.0.0.0:9383", tls: {cert_file: a.pem, key_file: a.pem, ca_file: ca.pem}}
routes: {B: {url: "https://b:1"}}`, nil},
		{"pinned key", `
partners: {tls: {cert_file: a.pem, key_file: a.pem}}
routes: {B: {url: "https://b:1", tls: {spki_sha256: [` + pin + `]}}}`, nil},
		{"nothing but a URL", `routes: {B: {url: "http://b:1"}}`, []string{
			"routes.B.url: must be https, because the auth of B is mtls",
			"routes.B.auth: mtls requires this party's certificate: set partners.tls.cert_file",
			"routes.B.tls: must name what proves B: ca_file, spki_sha256, or partners.tls.ca_file"}},
		{"plain transport", `
partners: {tls: {cert_file: a.pem, key_file: a.pem, ca_file: ca.pem}}
routes: {B: {url: "https://b:1", transport_url: "http://b:2"}}`, []string{
			"routes.B.transport_url: must be https"}},
		{"no certificate to listen with", `partners: {listen: "0.0.0.0:9383"}`, []string{
			"partners.listen: requires partners.tls.cert_file and key_file"}},
		{"half a certificate", `partners: {tls: {cert_file: a.pem}}`, []string{
			"partners.tls.cert_file: must be set together with partners.tls.key_file"}},
		{"TLS 1.1", `partners: {tls: {min_version: "1.1"}}`, []string{
			"partners.tls.min_version: must be one of [1.2 1.3]"}},
		{"no proof, from anywhere", `routes: {B: {url: "http://b:1", auth: none}}`, []string{
			"routes.B.from: must list the networks from which B calls"}},
		{"no proof, no network", `routes: {B: {url: "http://b:1", auth: none, from: [here]}}`, []string{
			`routes.B.from: "here" is not a network such as 192.0.2.0/24`}},
		{"networks without use", `
partners: {tls: {cert_file: a.pem, key_file: a.pem, ca_file: ca.pem}}
routes: {B: {url: "https://b:1", from: [192.0.2.0/24]}}`, []string{"routes.B.from: is only for auth none"}},
		{"no key", `
partners: {tls: {cert_file: a.pem, key_file: a.pem}}
routes: {B: {url: "https://b:1", tls: {spki_sha256: [abc]}}}`, []string{
			"routes.B.tls.spki_sha256: \"abc\" is not the SHA-256 of a public key"}},
		{"unknown kind", `routes: {B: {url: "https://b:1", auth: basic}}`, []string{
			`routes.B.auth: must be one of [mtls mtls+sign sign fate-site none], but is "basic"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(write(t, "node_id: A\n"+test.document), nil)
			if test.errs == nil {
				require.NoError(t, err)
				return
			}
			require.Error(t, err)
			for _, want := range test.errs {
				assert.ErrorContains(t, err, want)
			}
			assert.Len(t, strings.Split(err.Error(), "\n"), len(test.errs), err)
		})
	}
}

// TestOpenPartners checks that the certificates that a configuration names make the directory.
func TestOpenPartners(t *testing.T) {
	dir := t.TempDir()
	authority, caFile, err := certs.OpenAuthority(dir, "test")
	require.NoError(t, err)
	own := filepath.Join(dir, "A.pem")
	require.NoError(t, authority.IssueFile(own, certs.Leaf{Node: "A"}))
	load := func(document string) (*partners.Directory, error) {
		c, err := Load(write(t, "node_id: A\n"+document), nil)
		require.NoError(t, err)
		return c.OpenPartners(nil, slog.New(slog.DiscardHandler))
	}
	d, err := load(
		"partners: {tls: {cert_file: " + own + ", key_file: " + own + ", ca_file: " + caFile + "}}\n" +
			"routes: {B: {url: 'https://b:1'}, A: {url: 'https://a:1'}}",
	)
	require.NoError(t, err)
	require.Len(t, d.Partners(), 1, "this party is not a partner")
	b, found := d.Lookup("B")
	require.True(t, found)
	require.Equal(t, partners.MTLS, b.Auth)
	require.NotNil(t, b.Peer.Authorities)
	require.Equal(t, "A", d.Certificate().Subject.CommonName)

	_, err = load("partners: {tls: {cert_file: " + own + ", key_file: " + own + ", ca_file: /none}}\n" +
		"routes: {B: {url: 'https://b:1'}}")
	require.ErrorContains(t, err, "partners.tls.ca_file: failed to find the authorities /none")
	_, err = load("partners: {tls: {cert_file: /none, key_file: /none}}")
	require.ErrorContains(t, err, "partners.tls.cert_file: failed to find the certificate /none")
}
