package partners

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keyFiles are a private key and its public key, in PEM files.
type keyFiles struct{ private, public string }

// vectorKeys returns the keys of an algorithm's vectors.
func vectorKeys(name string) keyFiles {
	dir := filepath.Join("..", "..", "bfia", "sign", "testdata")
	return keyFiles{filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")}
}

func newKeyFiles(t *testing.T) keyFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	dir := t.TempDir()
	files := keyFiles{filepath.Join(dir, "key.pem"), filepath.Join(dir, "pub.pem")}
	for file, block := range map[string]*pem.Block{
		files.private: {Type: "PRIVATE KEY", Bytes: private},
		files.public:  {Type: "PUBLIC KEY", Bytes: public},
	} {
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(block), 0o600))
	}
	return files
}

// TestReplacedKeys replaces both sides' keys in their files while they talk.
func TestReplacedKeys(t *testing.T) {
	aKeys, next := newKeyFiles(t), newKeyFiles(t)
	p := newSignedParties(t, aKeys, &MemoryNonces{})
	send := func() int {
		httpStatus, _, _ := do(t, p.client, p.request(t, "POST", p.url+startPath, "{}"))
		return httpStatus
	}
	read := func(file string) []byte {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		return content
	}
	require.Equal(t, http.StatusOK, send())
	both := append(read(aKeys.public), read(next.public)...)
	require.NoError(t, os.WriteFile(aKeys.public, both, 0o600))
	require.Eventually(t, func() bool { return len(p.b.Keys["A"].partner.Get()) == 2 }, time.Minute,
		50*time.Millisecond)
	require.Equal(t, http.StatusOK, send())
	before := p.a.Keys["B"].own.Get().Public().Fingerprint()
	require.NoError(t, os.WriteFile(aKeys.private, read(next.private), 0o600))
	require.Eventually(t, func() bool { return p.a.Keys["B"].own.Get().Public().Fingerprint() != before },
		time.Minute, 50*time.Millisecond)
	require.Equal(t, http.StatusOK, send())
	require.NoError(t, os.WriteFile(aKeys.public, read(next.public), 0o600))
	require.Eventually(t, func() bool { return len(p.b.Keys["A"].partner.Get()) == 1 }, time.Minute,
		50*time.Millisecond)
	require.Equal(t, http.StatusOK, send())
}

func TestLoadSignKeysRefuses(t *testing.T) {
	good := newKeyFiles(t)
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ own, partner, want string }{
		{missing, good.public, "sign.key_file: "},
		{good.public, good.public, "sign.key_file: "},
		{good.private, missing, "sign.partner_key_file: "},
		{good.private, good.private, "ask the partner for the public key"},
	} {
		_, err := LoadSignKeys(c.own, c.partner, quiet)
		require.ErrorContains(t, err, c.want)
	}
}
