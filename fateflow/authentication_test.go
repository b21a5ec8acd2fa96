package fateflow

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

var testApp = App{ID: "12345678", Token: "AbCdEfGh01234567"}

const testTime = "1700000000000"

func testNow() time.Time { return time.UnixMilli(1_700_000_000_000) }

// TestSignatureVectors has vectors that the own code of FATE-Flow 2.2.0 and of fate_client 2.2.0 made.
func TestSignatureVectors(t *testing.T) {
	for who, want := range map[string]string{
		"":      "3cac4398ed8a85a5dc4921eedcc2af19",
		"9999":  "2e5aa43b9dd7d40cead1877cb7ac15d4",
		"alice": "7225c22331d94a6241de485b207e5565",
	} {
		assert.Equal(t, want, testApp.sign(who, "4711", testTime))
		header := http.Header{}
		header.Set("appId", testApp.ID)
		header.Set("Nonce", "4711")
		header.Set("Timestamp", testTime)
		header.Set("Signature", want)
		header.Set("initiatorPartyId", who)
		site, err := SiteAuthentication(header)
		require.NoError(t, err)
		require.NoError(t, site.Verify(testApp, testNow()))

		header.Del("initiatorPartyId")
		header.Set("userName", who)
		client, err := ClientAuthentication(header)
		require.NoError(t, err)
		require.NoError(t, client.Verify(testApp, testNow()))
		assert.Equal(t, who, client.Who)
	}
}

func TestSignClient(t *testing.T) {
	for _, user := range []string{"", "alice"} {
		header := http.Header{}
		testApp.SignClient(header, user, testNow())
		require.True(t, HasAuthentication(header))
		require.Len(t, header, len(AuthenticationHeaders()))
		for _, name := range AuthenticationHeaders() {
			require.Len(t, header.Values(name), 1, name)
		}
		a, err := ClientAuthentication(header)
		require.NoError(t, err)
		require.Equal(t, user, a.Who)
		require.NoError(t, a.Verify(testApp, testNow()))
	}
}

func signedSite(t *testing.T) http.Header {
	t.Helper()
	header := http.Header{}
	testApp.SignSite(header, "JG01", testNow())
	return header
}

func TestSignSite(t *testing.T) {
	nonces := map[string]bool{}
	for range 5000 {
		header := signedSite(t)
		require.Regexp(t, `^[0-9a-z]{4}$`, header.Get("Nonce"))
		nonces[header.Get("Nonce")] = true
		a, err := SiteAuthentication(header)
		require.NoError(t, err)
		require.NoError(t, a.Verify(testApp, testNow()))
	}
	assert.Len(t, nonces, 5000, "none repeats, since all may be of one millisecond")
}

// TestSignatureOfOtherHeaders moves characters between the texts that a signature covers, which nothing
// separates: the signature stays the same, and must neither prove another name nor count as another one.
func TestSignatureOfOtherHeaders(t *testing.T) {
	for _, c := range []struct{ nonce, who, moved, timestamp string }{
		{"ab10", "999", "9ab1", "0" + testTime},
		{"ab00", "99", "99ab", "00" + testTime},
		{"ab1+", "999", "9ab1", "+" + testTime},
	} {
		sent := Authentication{AppID: testApp.ID, Who: "9999", Nonce: c.nonce, Timestamp: testTime,
			Signature: testApp.sign("9999", c.nonce, testTime)}
		require.NoError(t, sent.Verify(testApp, testNow()))
		moved := Authentication{AppID: testApp.ID, Who: c.who, Nonce: c.moved, Timestamp: c.timestamp,
			Signature: sent.Signature}
		require.Equal(t, sent.Signature, testApp.sign(c.who, c.moved, c.timestamp), "the case is a true one")
		require.Equal(t, CodeInvalidParameter, bfia.CodeOf(moved.Verify(testApp, testNow())), c.timestamp)
		require.Equal(t, sent.Key(), moved.Key(), "it is the signature that was used")
	}
}

func TestAuthenticationRefuses(t *testing.T) {
	code := func(change func(http.Header), app App, offset time.Duration) bfia.Code {
		header := signedSite(t)
		change(header)
		a, err := SiteAuthentication(header)
		if err == nil {
			err = a.Verify(app, testNow().Add(offset))
		}
		return bfia.CodeOf(err)
	}
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	same := func(http.Header) {}
	require.Equal(t, bfia.CodeOK, code(same, testApp, 0))
	require.Equal(t, bfia.CodeOK, code(same, testApp, SignatureValidity))
	require.Equal(t, bfia.CodeOK, code(same, testApp, -SignatureSkew))
	require.Equal(t, CodeExpired, code(same, testApp, SignatureValidity+time.Millisecond))
	require.Equal(t, CodeExpired, code(same, testApp, -SignatureSkew-time.Millisecond))

	for _, name := range []string{"appId", "Nonce", "Timestamp", "Signature"} {
		require.Equal(t, CodeInvalidParameter, code(set(name, ""), testApp, 0), name)
		require.Equal(t, CodeInvalidParameter, code(set(name, strings.Repeat("1", 300)), testApp, 0), name)
		require.Equal(t, CodeInvalidParameter,
			code(func(h http.Header) { h.Add(name, h.Get(name)) }, testApp, 0), name)
	}
	require.Equal(t, CodeInvalidParameter, code(set("Nonce", "12345"), testApp, 0))
	require.Equal(t, CodeInvalidParameter, code(set("Timestamp", "now"), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("Nonce", "abcd"), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("initiatorPartyId", "JG02"), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("initiatorPartyId", ""), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("Timestamp", "1700000000001"), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("appId", "87654321"), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(set("Signature", strings.Repeat("0", 32)), testApp, 0))
	require.Equal(t, CodeVerifyFailed, code(same, App{ID: testApp.ID, Token: "other"}, 0))
	require.Equal(t, CodeVerifyFailed, code(same, App{ID: testApp.ID}, 0))
	require.Equal(t, CodeVerifyFailed, code(same, App{}, 0))
	require.Equal(t, CodeNoApp, bfia.CodeOf(NoApp("x")))
}

// TestEmptyTokenSignsNothing checks that an app without a token authenticates nobody, not even a sender who
// signs with the empty token.
func TestEmptyTokenSignsNothing(t *testing.T) {
	header := http.Header{}
	App{ID: "1"}.SignSite(header, "", testNow())
	a, err := SiteAuthentication(header)
	require.NoError(t, err)
	require.Equal(t, CodeVerifyFailed, bfia.CodeOf(a.Verify(App{ID: "1"}, testNow())))
}

func TestKeyAndDigest(t *testing.T) {
	a, err := SiteAuthentication(signedSite(t))
	require.NoError(t, err)
	digest := func(method, target, body string) string {
		d := NewRequestDigest(method, target)
		_, err := d.Write([]byte(body))
		require.NoError(t, err)
		return d.Text()
	}
	require.Equal(t, a.Key(), a.Key())
	request := digest("POST", "/p", "body")
	require.Equal(t, request, digest("POST", "/p", "body"))
	seen := map[string]bool{request: true}
	for _, other := range [][3]string{{"PUT", "/p", "body"}, {"POST", "/pb", "ody"}, {"POST", "/p", ""},
		{"POST", "/pbody", ""}} {
		different := digest(other[0], other[1], other[2])
		require.False(t, seen[different])
		seen[different] = true
	}
	for i, altered := range []Authentication{{AppID: "x", Who: a.Who}, {AppID: a.AppID}, {}} {
		require.NotEqual(t, a.Key(), altered.Key(), strconv.Itoa(i))
	}
}

func TestAppHidesItsToken(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		require.NotContains(t, fmt.Sprintf(format, testApp), testApp.Token, format)
		require.NotContains(t, fmt.Sprintf(format, &testApp), testApp.Token, format)
	}
}

func TestExplainRefusal(t *testing.T) {
	for code := CodeExpired; code <= CodeNoPermission; code++ {
		require.NotEmpty(t, ExplainRefusal(PathSchedulerTaskReport, code), code)
		require.Empty(t, ExplainRefusal(bfia.PathStart, code), "5000 and 5030 mean something else in BFIA")
	}
	require.Empty(t, ExplainRefusal(PathSchedulerTaskReport, 1000))
}
