package fateflow

import (
	"crypto/md5" //nolint:gosec // FATE-Flow's algorithm
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"hutong/bfia"
)

// The codes with which FATE-Flow refuses a request that it can't authenticate, with HTTP status 200.
const (
	CodeExpired          bfia.Code = 5000
	CodeInvalidParameter bfia.Code = 5001
	CodeNoApp            bfia.Code = 5002
	CodeVerifyFailed     bfia.Code = 5003
	CodeNotAuthorised    bfia.Code = 5004
	CodeNoPermission     bfia.Code = 5005
)

const (
	headerAppID     = "appId"
	headerUserName  = "userName"
	headerInitiator = "initiatorPartyId"
	headerNonce     = "Nonce"
	headerTimestamp = "Timestamp"
	headerSignature = "Signature"
)

const (
	// SignatureValidity is the age at which FATE-Flow refuses a signature.
	SignatureValidity = 60 * time.Second
	// SignatureSkew is how far a timestamp may be ahead of the receiver's clock, since clocks differ.
	// FATE-Flow itself accepts any time in the future.
	SignatureSkew = 10 * time.Second
	// SignatureMemory is how long a signature must be remembered at least.
	SignatureMemory = SignatureValidity + SignatureSkew

	nonceLength   = 4
	maxAuthHeader = 256
)

// App is an app of FATE-Flow's authentication: what names one side to the other, and their shared secret.
type App struct{ ID, Token string }

// String returns the id, never the token.
func (a App) String() string { return "app " + a.ID }

// GoString returns the id, never the token.
func (a App) GoString() string { return a.String() }

// sign returns FATE-Flow's signature. who is the user's name of a client, or the initiator's party id of a
// site. The signature proves that the sender knows the token. It covers neither the body nor the path, and
// MD5 and a token of 16 characters are weak: use it within TLS only.
func (a App) sign(who, nonce, timestamp string) string {
	return md5Hex(md5Hex(a.ID+who+nonce+timestamp) + a.Token)
}

func md5Hex(text string) string {
	sum := md5.Sum([]byte(text)) //nolint:gosec // FATE-Flow's algorithm
	return hex.EncodeToString(sum[:])
}

// SignClient sets the headers of client authentication, in the name of a user, on a request to FATE-Flow. The
// name may be empty.
func (a App) SignClient(header http.Header, user string, now time.Time) {
	nonce, timestamp := newNonce(), strconv.FormatInt(now.UnixMilli(), 10)
	header.Set(headerAppID, a.ID)
	header.Set(headerUserName, user)
	header.Set(headerNonce, nonce)
	header.Set(headerTimestamp, timestamp)
	header.Set(headerSignature, a.sign(user, nonce, timestamp))
}

// SignSite sets the headers of site authentication, in the name of a party, on a request to FATE-Flow. Sign a
// request again before each retry: the signature expires after [SignatureValidity].
func (a App) SignSite(header http.Header, partyID string, now time.Time) {
	a.signSite(header, partyID, newNonce(), strconv.FormatInt(now.UnixMilli(), 10))
}

const (
	nonceBase  = 36
	nonceCount = nonceBase * nonceBase * nonceBase * nonceBase
)

// nonces counts the nonces of this process, from a random number on.
var nonces = func() *atomic.Uint64 {
	n := new(atomic.Uint64)
	n.Store(rand.Uint64N(nonceCount))
	return n
}()

// newNonce returns a nonce of the four characters that FATE-Flow requires. Random ones would repeat within a
// millisecond when many messages are sent, which the receiver takes for a replay.
func newNonce() string {
	text := strconv.FormatUint(nonces.Add(1)%nonceCount, nonceBase)
	return strings.Repeat("0", nonceLength-len(text)) + text
}

func (a App) signSite(header http.Header, partyID, nonce, timestamp string) {
	header.Set(headerAppID, a.ID)
	header.Set(headerInitiator, partyID)
	header.Set(headerNonce, nonce)
	header.Set(headerTimestamp, timestamp)
	header.Set(headerSignature, a.sign(partyID, nonce, timestamp))
}

// Authentication holds the headers with which a FATE-Flow site, or a client of FATE-Flow, names itself.
type Authentication struct {
	AppID string
	// Who is the user's name of a client, or the initiator's party id of a site. It may be empty.
	Who       string
	Nonce     string
	Timestamp string // Unix milliseconds
	Signature string
}

// AuthenticationHeaders returns the names of the headers of FATE-Flow's client authentication.
func AuthenticationHeaders() []string {
	return []string{headerAppID, headerUserName, headerNonce, headerTimestamp, headerSignature}
}

// HasAuthentication returns whether a request has headers of FATE-Flow's authentication.
func HasAuthentication(header http.Header) bool {
	return header.Get(headerAppID) != "" && header.Get(headerSignature) != ""
}

// SiteAuthentication returns the headers of site authentication, with which requests to [PathJobCreate] and
// its kin come. The error has the code and the name of the header, as FATE-Flow's.
func SiteAuthentication(header http.Header) (Authentication, error) {
	return newAuthentication(header, headerInitiator)
}

// ClientAuthentication returns the headers of client authentication, which FATE-Flow's command line and SDK
// send. Who is then the name of the user.
func ClientAuthentication(header http.Header) (Authentication, error) {
	return newAuthentication(header, headerUserName)
}

func newAuthentication(header http.Header, who string) (Authentication, error) {
	a := Authentication{
		AppID:     header.Get(headerAppID),
		Who:       header.Get(who),
		Nonce:     header.Get(headerNonce),
		Timestamp: header.Get(headerTimestamp),
		Signature: header.Get(headerSignature),
	}
	for _, f := range []struct {
		name, value string
		optional    bool
	}{
		{headerAppID, a.AppID, false}, {who, a.Who, true}, {headerNonce, a.Nonce, false},
		{headerTimestamp, a.Timestamp, false}, {headerSignature, a.Signature, false},
	} {
		if f.value == "" && !f.optional || len(f.value) > maxAuthHeader || len(header.Values(f.name)) > 1 {
			return Authentication{}, bfia.Errorf(CodeInvalidParameter,
				"invalid parameter: %s: the header must be given once, with at most %d characters", f.name,
				maxAuthHeader)
		}
	}
	if len(a.Nonce) != nonceLength {
		return Authentication{}, bfia.Errorf(CodeInvalidParameter,
			"invalid parameter: %s: must have %d characters", headerNonce, nonceLength)
	}
	return a, nil
}

// Verify returns an error with one of FATE-Flow's codes unless an app has made the signature at most
// [SignatureValidity] before now. The caller must look up the app by its id, and remember the signature with
// [Authentication.Key].
func (a Authentication) Verify(app App, now time.Time) error {
	ms, err := strconv.ParseInt(a.Timestamp, 10, 64)
	// Nothing separates the texts that are signed. With a zero before the time, the end of a nonce and of a
	// name could be moved into the next text, and the signature would be that of other headers too.
	if err != nil || strconv.FormatInt(ms, 10) != a.Timestamp {
		return bfia.Errorf(CodeInvalidParameter,
			"invalid parameter: %s: must be a time in Unix milliseconds", headerTimestamp)
	}
	want := app.sign(a.Who, a.Nonce, a.Timestamp)
	matches := subtle.ConstantTimeCompare([]byte(want), []byte(a.Signature)) == 1
	if app.ID == "" || app.Token == "" || a.AppID != app.ID || !matches {
		return bfia.Errorf(CodeVerifyFailed,
			"verify failed: the signature does not match app %s; compare the app tokens of both sides", a.AppID)
	}
	age := now.Sub(time.UnixMilli(ms))
	switch {
	case age > SignatureValidity:
		return bfia.Errorf(CodeExpired, "request has expired: it was signed more than %v ago; "+
			"compare the clocks of both sides", SignatureValidity)
	case age < -SignatureSkew:
		return bfia.Errorf(CodeExpired, "request was signed more than %v in the future; "+
			"compare the clocks of both sides", SignatureSkew)
	}
	return nil
}

// NoApp returns the error for an app id that the configuration does not have.
func NoApp(id string) error {
	return bfia.Errorf(CodeNoApp, "no found appid: app %.40q is not known here", id)
}

// Key identifies the signature, whichever headers come with it. FATE-Flow repeats a request whose answer is
// lost with the same signature; a signature that comes with another request is stolen. So remember the key
// with the [RequestDigest] for [SignatureMemory], and refuse another request with the same key.
func (a Authentication) Key() string {
	h := sha256.New()
	for _, part := range []string{a.AppID, a.Signature} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// RequestDigest is a digest of a request. Write the body to it.
type RequestDigest struct{ hash.Hash }

// NewRequestDigest begins the digest of a request with its method and its path and query.
func NewRequestDigest(method, target string) RequestDigest {
	d := RequestDigest{sha256.New()}
	_, _ = fmt.Fprintf(d, "%d:%s%d:%s", len(method), method, len(target), target) // never fails
	return d
}

// Text returns the digest in hexadecimal.
func (d RequestDigest) Text() string { return hex.EncodeToString(d.Sum(nil)) }

// ErrStolen returns the error for a signature that was used for another request.
func ErrStolen() error {
	return bfia.Errorf(CodeVerifyFailed, "verify failed: the signature was used for another request")
}

// ExplainRefusal returns what an operator must do after FATE-Flow has refused a request to a path with a code
// of its authentication, or "" for any other refusal.
func ExplainRefusal(path string, code bfia.Code) string {
	if path != PathSchedulerTaskReport && path != PathSchedulerJobStop {
		return ""
	}
	switch code {
	case CodeExpired:
		return "the signature has expired: compare the clocks"
	case CodeInvalidParameter:
		return "FATE-Flow requires site authentication: set fate.app_id and fate.app_token_file of its route"
	case CodeNoApp:
		return "FATE-Flow does not know the app: create one with 'flow client create-site', and set fate.app_id " +
			"of its route"
	case CodeVerifyFailed:
		return "the token is wrong: compare fate.app_token_file of its route with the app at FATE-Flow"
	case CodeNotAuthorised, CodeNoPermission:
		return "the app lacks the role site: grant it with 'flow permission grant --role site' at FATE-Flow"
	}
	return ""
}
