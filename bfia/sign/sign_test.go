package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEveryByteIsSigned flips each bit of the lowest and the highest order of each signed byte, and drops
// each byte.
func TestEveryByteIsSigned(t *testing.T) {
	for name, algorithm := range algorithms {
		t.Run(name, func(t *testing.T) {
			private, public := keys(t, name)
			header := testHeader()
			header.Set("x-ptp-topic", "a b")
			header.Set("x-ptp-session-id", "session_J")
			header.Set("x-mprac-token-set", "bank#train/1/PERMIT")
			r := testRequest(t, header)
			signature, err := private.Sign(r, digestOf(algorithm, testBody))
			require.NoError(t, err)

			verify := func(r Request, body string) error {
				return public.Verify(r, digestOf(algorithm, body), signature)
			}
			require.NoError(t, verify(r, testBody))
			for _, body := range alterations(testBody) {
				require.Error(t, verify(r, body), "body %q", body)
			}
			for field, get := range map[string]func(*Request) *string{
				"method": func(r *Request) *string { return &r.Method },
				"target": func(r *Request) *string { return &r.Target },
				"source": func(r *Request) *string { return &r.Source },
				"dest":   func(r *Request) *string { return &r.Destination },
				"nonce":  func(r *Request) *string { return &r.Nonce },
				"time":   func(r *Request) *string { return &r.Timestamp },
				"permit": func(r *Request) *string { return &r.Headers[0] },
				"ptp 0":  func(r *Request) *string { return &r.Headers[1] },
				"ptp 1":  func(r *Request) *string { return &r.Headers[2] },
			} {
				for _, value := range alterations(*get(&r)) {
					altered := r
					altered.Headers = append([]string(nil), r.Headers...)
					*get(&altered) = value
					require.Error(t, verify(altered, testBody), "%s %q", field, value)
				}
			}
			withoutTransport := r
			withoutTransport.Headers = nil
			require.ErrorIs(t, verify(withoutTransport, testBody), ErrSignature)

			raw, err := base64.StdEncoding.DecodeString(signature)
			require.NoError(t, err)
			for _, altered := range alterations(string(raw)) {
				err := public.Verify(r, digestOf(algorithm, testBody),
					base64.StdEncoding.EncodeToString([]byte(altered)))
				require.ErrorIs(t, err, ErrSignature)
			}
		})
	}
}

// TestHeadersOfEitherSpelling checks that a header which is signed can't be added in the spelling with
// underscores, which receivers read too.
func TestHeadersOfEitherSpelling(t *testing.T) {
	private, public := keys(t, "rsa")
	header := testHeader()
	signature, err := private.Sign(testRequest(t, header), digestOf(RSA, testBody))
	require.NoError(t, err)
	for _, name := range []string{"x_mprac_token_set", "x_ptp_topic"} {
		added := header.Clone()
		added.Set(name, "bank#train/1/PERMIT")
		err := public.Verify(testRequest(t, added), digestOf(RSA, testBody), signature)
		require.ErrorIs(t, err, ErrSignature, name)
	}
}

// alterations returns texts that differ from a text in one bit, or lack a byte, or have one more.
func alterations(text string) []string {
	all := []string{text + "a", "a" + text}
	for i := range text {
		for _, bit := range []byte{1, 0x20, 0x80} {
			altered := []byte(text)
			altered[i] ^= bit
			all = append(all, string(altered))
		}
		all = append(all, text[:i]+text[i+1:])
	}
	return all
}

func TestVerifyRefuses(t *testing.T) {
	private, public := keys(t, "ecdsa")
	r, digest := testRequest(t, testHeader()), digestOf(ECDSA, testBody)
	signature, err := private.Sign(r, digest)
	require.NoError(t, err)

	for name, forged := range map[string]string{
		"empty": "", "not base64": "§", "line break": signature[:4] + "\n" + signature[4:],
		"url alphabet": strings.NewReplacer("+", "-", "/", "_").Replace(signature) + "-_",
		"no padding":   strings.TrimRight(signature, "=") + "A",
	} {
		require.Error(t, public.Verify(r, digest, forged), name)
	}
	for other := range algorithms {
		_, key := keys(t, other)
		if other != "ecdsa" {
			require.ErrorIs(t, key.Verify(r, digest, signature), ErrSignature, other)
		}
	}
}

func TestFromHeaderRefuses(t *testing.T) {
	for _, name := range []string{HeaderSource, HeaderTarget, HeaderNonce, HeaderTimestamp} {
		for what, change := range map[string]func(http.Header){
			"is missing":                    func(h http.Header) { h.Del(name) },
			"occurs 2 times":                func(h http.Header) { h.Add(name, "other") },
			"other than printable ASCII":    func(h http.Header) { h.Set(name, "a b") },
			"a character other than printa": func(h http.Header) { h.Set(name, "é") },
		} {
			header := testHeader()
			change(header)
			_, err := FromHeader(http.MethodPost, "/", header)
			require.ErrorContains(t, err, what, name)
			require.ErrorContains(t, err, name)
		}
	}
	header := testHeader()
	header.Set(HeaderNonce, strings.Repeat("n", maxNonce+1))
	_, err := FromHeader(http.MethodPost, "/", header)
	require.ErrorContains(t, err, "longer than 128 characters")

	header = testHeader()
	header.Add("x-ptp-topic", "a")
	header.Add("x-ptp-topic", "b")
	_, err = FromHeader(http.MethodPost, "/", header)
	require.ErrorContains(t, err, "x-ptp-topic occurs 2 times")

	_, err = Signature(http.Header{})
	require.ErrorContains(t, err, "header x-auth-sign is missing")
}

func TestCheckTime(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	at := func(offset time.Duration) error {
		r := Request{Timestamp: strconv.FormatInt(now.Add(offset).UnixMilli(), 10)}
		return r.CheckTime(now)
	}
	require.NoError(t, at(0))
	require.NoError(t, at(-Window))
	require.NoError(t, at(Window))
	require.ErrorContains(t, at(-Window-time.Millisecond), "more than 5m0s ago")
	require.ErrorContains(t, at(Window+time.Millisecond), "in the future")
	for _, text := range []string{"", "now", "-1", "0", "1.5", "9999999999999999999", "1700000000"} {
		require.Error(t, Request{Timestamp: text}.CheckTime(now), text)
	}
}

func TestParseKeys(t *testing.T) {
	block := func(kind string, body []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: body})
	}
	for text, want := range map[string]string{
		"":                                "no PEM block",
		string(block("X", nil)):           "is a X",
		string(testFile(t, "rsa.pub")):    "is a PUBLIC KEY",
		string(block("PRIVATE KEY", nil)): "failed to parse the PRIVATE KEY",
		string(block("ENCRYPTED PRIVATE KEY", nil)): "is encrypted",
	} {
		_, err := ParsePrivateKey([]byte(text))
		require.ErrorContains(t, err, want)
	}
	for text, want := range map[string]string{
		"":                               "no PEM block",
		string(testFile(t, "rsa.key")):   "has a private key",
		string(block("PUBLIC KEY", nil)): "failed to parse the PUBLIC KEY",
		weakKey:                          "has 1024 bits, must have at least 2048",
		p384Key:                          "on the curve P-384",
	} {
		_, err := ParsePublicKeys([]byte(text))
		require.ErrorContains(t, err, want)
	}

	several, err := ParsePublicKeys(append(testFile(t, "rsa.pub"), testFile(t, "sm2.pub")...))
	require.NoError(t, err)
	require.Len(t, several, 2)
	require.Equal(t, SM2, several[1].Algorithm())

	private, _ := keys(t, "sm2")
	der, _ := pem.Decode(testFile(t, "sm2.key"))
	for _, format := range []string{"%v", "%#v", "%+v"} {
		text := fmt.Sprintf(format, private)
		assert.Equal(t, "SM2_SM3 private key", text)
		assert.False(t, bytes.Contains([]byte(text), der.Bytes[:8]))
	}
}

// FuzzCanonical checks that the canonical form determines the request: what is signed for one can't be used
// for another.
func FuzzCanonical(f *testing.F) {
	f.Add("POST", "/a?b", "A", "B", "n", "1", "x-ptp-topic:a", []byte("body"))
	f.Add("POST\n/a", "b", "A", "B", "n", "1", "", []byte{})
	f.Add("GET", "/\n", "A", "B", "n", "1", "x-ptp-a:1\nx-ptp-b:2", []byte{0})
	f.Fuzz(func(t *testing.T, method, target, source, dest, nonce, at, transport string, body []byte) {
		r := Request{Method: method, Target: target, Source: source, Destination: dest, Nonce: nonce,
			Timestamp: at}
		if transport != "" {
			r.Headers = []string{transport}
		}
		if r.check() != nil {
			return
		}
		digest := digestOf(RSA, string(body))
		lines := strings.Split(string(r.canonical(RSA.NewHash(), digest)), "\n")
		want := []string{method, target, source, dest, nonce, at, fmt.Sprintf("%x", digest)}
		if transport != "" {
			want = append(want, fmt.Sprintf("%x", digestOf(RSA, transport)))
		}
		if !assert.ObjectsAreEqual(want, lines) {
			t.Fatalf("%q is the form of %q", lines, want)
		}
	})
}

// FuzzVerify checks that no signature but the key's is accepted, and that none crashes the receiver.
func FuzzVerify(f *testing.F) {
	f.Add("MEUCIQ==", "a:b")
	for name := range algorithms {
		f.Add(string(testFile(f, "signature."+name+".txt")), "")
	}
	f.Fuzz(func(t *testing.T, signature, transport string) {
		for name, algorithm := range algorithms {
			_, public := keys(t, name)
			r := testRequest(t, testHeader())
			if transport != "" {
				r.Headers = []string{transport}
			}
			good := signature == string(testFile(t, "signature."+name+".txt")) && transport == ""
			err := public.Verify(r, digestOf(algorithm, testBody), signature)
			if good != (err == nil) {
				t.Fatalf("%s: %q: %v", name, signature, err)
			}
		}
	})
}

const (
	weakKey = `-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDoax2vsn/VYD5TaWPvYBXnjCMj
cBAci1wgBguaVxTWAxJDTHjpt9I5ZlwZFaAfj2+GvxwpSS2QYIh7FneZvlFDLM8X
T4pIpKM6D6jfRPVtCBQVLyE/H8IewFCekpk+HNTZK/XM/DkH7F7SSDipTwo9oqw6
lJruNcROWrCQEjBghwIDAQAB
-----END PUBLIC KEY-----`
	p384Key = `-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEV4bKmmF1yD7G38+xHrKCzoELetfhZnla
v+r5gYLmsWaENjfVvLK1hppK6sC/9tMtrMW/F9FbAcWqHiXn2Fy1rDitDmIXNE0w
ICL5S4jq4Wf0ZhyC+KyBNsyOywRIdRdo
-----END PUBLIC KEY-----`
)
