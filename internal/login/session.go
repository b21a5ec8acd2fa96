package login

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/oauth2"
)

// refreshBefore is how long before its expiry an id token is refreshed, so that it does not expire on its
// way.
const refreshBefore = 30 * time.Second

// Bearer returns the bearer token for a party, by its URL, or "" without credentials. It refreshes an id
// token that expires, and keeps the new one. Several processes may call it at once: one of them refreshes.
func (f File) Bearer(ctx context.Context, url string, over *http.Client) (string, error) {
	c, found, err := f.Get(url)
	if err != nil || !found || c.OIDC == nil {
		return c.Token, err
	}
	if c.OIDC.valid() {
		return c.OIDC.IDToken, nil
	}
	if c.OIDC.RefreshToken == "" {
		return "", fmt.Errorf("the login at %s expired at %s: run 'hutong login' again", url,
			c.OIDC.ExpiresAt.Format(time.RFC3339))
	}

	var token string
	err = f.Update(url, func(current *Credentials) (*Credentials, error) {
		if current == nil || current.OIDC == nil {
			return current, fmt.Errorf("the login at %s was deleted: run 'hutong login' again", url)
		}
		if !current.OIDC.valid() { // otherwise another process has refreshed it
			fresh, err := refresh(ctx, *current.OIDC, over)
			var refused *oauth2.RetrieveError
			if errors.As(err, &refused) {
				return nil, fmt.Errorf("the OpenID provider no longer renews the login at %s: "+
					"run 'hutong login' again (%s %s)", url, refused.ErrorCode, refused.ErrorDescription)
			}
			if err != nil {
				return nil, fmt.Errorf("failed to renew the login at %s: %w", url, err)
			}
			current.OIDC = fresh
		}
		token = current.OIDC.IDToken
		return current, nil
	})
	return token, err
}

// valid returns whether the id token is still valid when it arrives.
func (o *OIDC) valid() bool { return time.Until(o.ExpiresAt) > refreshBefore }
