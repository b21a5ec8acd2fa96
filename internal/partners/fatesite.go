package partners

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/certs"
)

// FATEKeys are the apps with which this party and a FATE-Flow partner authenticate to each other.
type FATEKeys struct {
	appID, theirAppID string
	token, theirToken *certs.File[string]
}

// LoadFATEKeys reads the tokens of both apps: the one that FATE-Flow has made for this party, and the one
// that this party has given FATE-Flow. The error names the field of the route, the file and the reason.
func LoadFATEKeys(appID, tokenFile, theirAppID, theirTokenFile string, logger *slog.Logger) (FATEKeys,
	error) {
	token, err := certs.LoadFile("the token of app "+appID, tokenFile, parseToken, logger)
	if err != nil {
		return FATEKeys{}, fmt.Errorf("fate.app_token_file: %w", err)
	}
	theirs, err := certs.LoadFile("the token of app "+theirAppID, theirTokenFile, parseToken, logger)
	if err != nil {
		return FATEKeys{}, fmt.Errorf("fate.their_app_token_file: %w", err)
	}
	return FATEKeys{appID, theirAppID, token, theirs}, nil
}

// minToken is the length of FATE-Flow's own tokens.
const minToken = 16

func parseToken(content []byte) (string, error) {
	token := strings.TrimSpace(string(content))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("must hold a token of at least %d characters in one line", minToken)
	}
	return token, nil
}

// FATESites is FATE-Flow's site authentication, the [Method] of [FATESite]. It proves who sends a request,
// within a minute, to a receiver that shares a secret with the sender. It protects neither path nor body.
type FATESites struct {
	// Node is this party.
	Node string
	// Keys holds the apps by partner.
	Keys map[string]FATEKeys
	// Nonces remembers what partners have sent.
	Nonces Nonces
	// Bodies bounds what is read before a sender is known.
	Bodies Bodies
}

var _ Method = (*FATESites)(nil)

// Claims implements [Method]: a request claims to come from the partner that has the app. The error for an
// unknown app has FATE-Flow's code.
func (f *FATESites) Claims(r *http.Request) (node string, ok bool, err error) {
	if !fateflow.HasAuthentication(r.Header) {
		return "", false, nil
	}
	claimed, err := fateflow.SiteAuthentication(r.Header)
	if err != nil {
		return "", true, err
	}
	for node, keys := range f.Keys {
		if keys.theirAppID == claimed.AppID {
			return node, true, nil
		}
	}
	return "", true, fateflow.NoApp(claimed.AppID)
}

// Verify implements [Method]. It reads the body, and refuses a signature that was used for another request.
func (f *FATESites) Verify(r *http.Request, from Partner) (credential string, err error) {
	keys, found := f.Keys[from.Node]
	if !found {
		return "", fmt.Errorf("this party has no app for node %s: set fate of its route", from.Node)
	}
	claimed, err := fateflow.SiteAuthentication(r.Header)
	if err != nil {
		return "", err
	}
	app := fateflow.App{ID: keys.theirAppID, Token: keys.theirToken.Get()}
	if err := claimed.Verify(app, time.Now()); err != nil {
		return "", err
	}
	content := fateflow.NewRequestDigest(r.Method, r.URL.RequestURI())
	if err := f.Bodies.read(r, content); err != nil {
		return "", err
	}
	return "app " + claimed.AppID, useNonce(r, f.Nonces, from.Node, "fate "+claimed.Key(), content.Text(),
		fateflow.ErrStolen())
}

// Prove implements [Method]: it sets the headers of site authentication.
func (f *FATESites) Prove(r *http.Request, to Partner) error {
	keys, found := f.Keys[to.Node]
	if !found {
		return fmt.Errorf("this party has no app for node %s: set fate of its route", to.Node)
	}
	app := fateflow.App{ID: keys.appID, Token: keys.token.Get()}
	app.SignSite(r.Header, f.Node, time.Now())
	return nil
}

// isFATEFlow reports whether a path is one of FATE-Flow's own protocol. FATE-Flow reads a refusal only if its
// HTTP status is 200.
func isFATEFlow(path string) bool {
	return strings.HasPrefix(path, "/v2/partner/") || strings.HasPrefix(path, "/v2/scheduler/")
}

// isFATECode reports whether a code is one of FATE-Flow's authentication.
func isFATECode(code bfia.Code) bool {
	return code >= fateflow.CodeExpired && code <= fateflow.CodeNoPermission
}

// refusalOf returns why a request is refused, with the code of the first [bfia.Error] in an error: one of
// FATE-Flow's, or CodeUnavailable if this party can't verify the sender now.
func refusalOf(err error) error {
	var known *bfia.Error
	if errors.As(err, &known) {
		return bfia.Wrap(known.Code, known.Cause, "the sender is not known: %s", known.Message)
	}
	return bfia.Errorf(bfia.CodeUnauthenticated, "the sender is not known: %v", err)
}
