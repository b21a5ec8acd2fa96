package sign

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testBody is the body of the request of the vectors.
const testBody = `{"job_id":"J"}`

// testHeader returns the headers of the request of the vectors, without those of the transport.
func testHeader() http.Header {
	header := http.Header{}
	header.Set(HeaderSource, "JG01")
	header.Set(HeaderTarget, "JG02")
	header.Set(HeaderNonce, "0b9f1d56-7a51-4a0f-b1a2-6f0f6a4a9b1e")
	header.Set(HeaderTimestamp, "1700000000000")
	header.Set("x-trace-id", "J")
	return header
}

func testRequest(t testing.TB, header http.Header) Request {
	t.Helper()
	r, err := FromHeader(http.MethodPost, "/v1/interconn/schedule/job/start?a=1", header)
	require.NoError(t, err)
	return r
}

func testFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return text
}

// keys returns a key pair of the vectors.
func keys(t testing.TB, name string) (*PrivateKey, *PublicKey) {
	t.Helper()
	private, err := ParsePrivateKey(testFile(t, name+".key"))
	require.NoError(t, err)
	public, err := ParsePublicKeys(testFile(t, name+".pub"))
	require.NoError(t, err)
	require.Len(t, public, 1)
	return private, public[0]
}

func digestOf(a Algorithm, body string) []byte {
	h := a.NewHash()
	_, _ = h.Write([]byte(body))
	return h.Sum(nil)
}

var algorithms = map[string]Algorithm{"rsa": RSA, "ecdsa": ECDSA, "sm2": SM2}

// TestVectors checks the canonical form and signatures that OpenSSL made.
func TestVectors(t *testing.T) {
	transport := testHeader()
	transport.Set("x-ptp-topic", "a b")
	transport.Set("x-ptp-session-id", "session_J")
	permits, none := testHeader(), testHeader()
	permits.Set("x-mprac-token-set", "JG02:DATASET:d1/1/PERMIT")
	none.Set("x-mprac-token-set", "")
	for _, v := range []struct {
		name, key string
		header    http.Header
	}{{"rsa", "rsa", testHeader()}, {"ecdsa", "ecdsa", testHeader()}, {"sm2", "sm2", testHeader()},
		{"transport", "rsa", transport}, {"permits", "rsa", permits}, {"rsa", "rsa", none}} {
		t.Run(v.name, func(t *testing.T) {
			private, public := keys(t, v.key)
			require.Equal(t, algorithms[v.key], private.Algorithm())
			require.Equal(t, algorithms[v.key], public.Algorithm())
			r, digest := testRequest(t, v.header), digestOf(public.Algorithm(), testBody)
			assert.Equal(t, string(testFile(t, "canonical."+v.name+".txt")),
				string(r.canonical(public.Algorithm().NewHash(), digest)))

			golden := string(testFile(t, "signature."+v.name+".txt"))
			require.NoError(t, public.Verify(r, digest, golden))
			ours, err := private.Sign(r, digest)
			require.NoError(t, err)
			require.NoError(t, public.Verify(r, digest, ours))
			require.NoError(t, private.Public().Verify(r, digest, ours))
			if v.key == "rsa" {
				require.Equal(t, golden, ours, "PKCS #1 v1.5 is deterministic")
			}
		})
	}
}

// TestOpenSSLVerifies checks our signatures with OpenSSL.
func TestOpenSSLVerifies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("HUTONG_REQUIRE_OPENSSL"), "openssl is required")
		t.Skip("there is no openssl")
	}
	for name, algorithm := range algorithms {
		t.Run(name, func(t *testing.T) {
			private, _ := keys(t, name)
			r, digest := testRequest(t, testHeader()), digestOf(algorithm, testBody)
			signature, err := private.Sign(r, digest)
			require.NoError(t, err)
			raw, err := base64.StdEncoding.DecodeString(signature)
			require.NoError(t, err)

			dir := t.TempDir()
			message, sig := filepath.Join(dir, "message"), filepath.Join(dir, "signature")
			canonical := r.canonical(algorithm.NewHash(), digest)
			require.NoError(t, os.WriteFile(message, canonical, 0o600))
			require.NoError(t, os.WriteFile(sig, raw, 0o600))
			hash, options := "sha256", []string(nil)
			if algorithm == SM2 {
				hash, options = "sm3", []string{"-pkeyopt", "distid:" + string(userID)}
			}
			args := append([]string{"pkeyutl", "-verify", "-rawin", "-digest", hash, "-pubin", "-inkey",
				filepath.Join("testdata", name+".pub"), "-in", message, "-sigfile", sig}, options...)
			out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
			require.NoError(t, err, "openssl: %s", out)

			canonical[0] ^= 1
			require.NoError(t, os.WriteFile(message, canonical, 0o600))
			require.Error(t, exec.CommandContext(t.Context(), openssl, args...).Run())
		})
	}
}

// TestDigestOfSM3 checks SM3 with the vector of GB/T 32905 A.1.
func TestDigestOfSM3(t *testing.T) {
	assert.Equal(t, "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		hex.EncodeToString(digestOf(SM2, "abc")))
}
