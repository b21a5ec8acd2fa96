package clients

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/fateflow"
	"hutong/internal/identity"
	"hutong/store"
)

// Secrets makes secrets that the processes of the party share.
type Secrets interface {
	Secret(ctx context.Context, name string) ([]byte, error)
}

// appSecret is the name of the secret from which the tokens of apps are derived. FATE-Flow's signature is a
// hash with the token, so a receiver that has only the token's hash can't verify it.
const appSecret = "fate-apps"

// appToken returns the token of an app: HMAC-SHA256 of its id with the party's secret. So the rows of apps
// hold no secret.
func appToken(ctx context.Context, secrets Secrets, id string) (string, error) {
	secret, err := secrets.Secret(ctx, appSecret)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(id)) // never fails
	return tokenEncoding.EncodeToString(mac.Sum(nil)), nil
}

// NewApp makes an app of FATE-Flow's client authentication, and the row that [store.Store.CreateToken]
// records of it. The app's id is the row's TokenID. expires is nil for an app that does not expire.
func NewApp(ctx context.Context, secrets Secrets, name string, roles []identity.Role, createdBy string,
	expires *time.Time) (token string, row store.Token, err error) {
	if row, err = newRow(name, roles, createdBy, expires); err != nil {
		return "", row, err
	}
	if token, err = appToken(ctx, secrets, row.TokenID); err != nil {
		return "", row, err
	}
	row.App, row.Hash = true, hashToken(token)
	return token, row, nil
}

// byApp returns the client whose app has signed a request. The name and the roles are those of the app: any
// holder of its token can sign any userName. It asks the database for each request, as for bearer tokens.
func (a *Authenticator) byApp(ctx context.Context, header http.Header) (identity.Principal, error) {
	claimed, err := fateflow.ClientAuthentication(header)
	if err != nil {
		return identity.Principal{}, refuseApp("invalid headers", err)
	}
	if !isTokenID(claimed.AppID) {
		return identity.Principal{}, refuseApp("unknown app", fateflow.NoApp(claimed.AppID))
	}
	t, found, err := a.tokens.TokenByID(ctx, claimed.AppID)
	if err != nil {
		return identity.Principal{}, err
	}
	if !found || !t.App {
		return identity.Principal{}, refuseApp("unknown app", fateflow.NoApp(claimed.AppID))
	}
	token, err := appToken(ctx, a.tokens, t.TokenID)
	if err != nil {
		return identity.Principal{}, err
	}
	now := a.now()
	if err := claimed.Verify(fateflow.App{ID: t.TokenID, Token: token}, now); err != nil {
		return identity.Principal{}, refuseApp("invalid signature", err)
	}
	if err := checkLife(t, "header appId: app", now); err != nil {
		return identity.Principal{}, err
	}

	// FATE's clients repeat no request, so a signature counts once.
	accepted, err := a.tokens.UseNonce(ctx, "app "+t.TokenID, claimed.Key(), "")
	if err != nil {
		return identity.Principal{}, bfia.Wrap(bfia.CodeUnavailable,
			fmt.Errorf("failed to record a signature of app %s: %w", t.TokenID, err),
			"this party can't check now whether the request is a replay; retry later")
	}
	if !accepted {
		return identity.Principal{}, refuse("replay",
			"verify failed: the signature of app %s was used before; send the request again", t.TokenID)
	}
	if err := a.tokens.UseToken(ctx, t, now); err != nil {
		return identity.Principal{}, err
	}
	return holder(t, identity.ByFATE), nil
}

// isTokenID reports whether a text has the form of a token's id.
func isTokenID(text string) bool {
	id, has := strings.CutPrefix(text, tokenIDPrefix)
	return has && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '2' || r > '7')
	})
}

// refuseApp returns the refusal of FATE-Flow's authentication as one of this listener: with FATE-Flow's
// message and HTTP status 401, since endpoints other than FATE-Flow's are served here too.
func refuseApp(reason string, err error) error {
	var known *bfia.Error
	if errors.As(err, &known) {
		if known.Code == fateflow.CodeExpired {
			reason = "stale signature"
		}
		return refuse(reason, "%s", known.Message)
	}
	return err
}
