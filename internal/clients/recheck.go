package clients

import (
	"context"
	"slices"
	"time"

	"hutong/bfia"
	"hutong/internal/identity"
)

// IDTokenHolds is how long an id token proves a user for acts that the party does later in the user's name.
// The party can't ask the OpenID provider whether it still knows the user.
const IDTokenHolds = 90 * 24 * time.Hour

// Recheck returns the client that proved at an earlier time who it is, with the roles that it has now. It
// refuses a client whose token was revoked or has expired, or whose certificate has no roles any more.
func (a *Authenticator) Recheck(ctx context.Context, p identity.Principal, provedAt time.Time,
) (identity.Principal, error) {
	switch p.Proof {
	case identity.ByToken, identity.ByFATE:
		t, found, err := a.tokens.TokenByID(ctx, p.Credential)
		if err != nil {
			return identity.Principal{}, err
		}
		if !found {
			return identity.Principal{}, refuse("unknown token", "token %s of %s does not exist any more",
				p.Credential, p.Name)
		}
		if err := checkLife(t, "token", a.now()); err != nil {
			return identity.Principal{}, err
		}
		return holder(t, p.Proof), nil
	case identity.ByCertificate:
		for _, c := range a.certificates {
			if c.Name == p.Name || c.Name == "" && c.Subject == p.Name {
				p.Roles = slices.Clone(c.Roles)
				return p, nil
			}
		}
		return identity.Principal{}, bfia.Wrap(bfia.CodeForbidden, &Refusal{"unknown certificate"},
			"client_certificates gives %s no roles any more", p.Name)
	case identity.ByOIDC:
		if a.oidc == nil {
			return identity.Principal{}, refuse("unknown user",
				"%s has proved who it is by an OpenID provider, and this party has none any more (oidc)",
				p.Name)
		}
		if a.now().Sub(provedAt) > IDTokenHolds {
			return identity.Principal{}, refuse("expired",
				"%s has last proved on %s who it is, which counts for %d days", p.Name,
				provedAt.Format(time.DateOnly), int(IDTokenHolds.Hours()/24))
		}
		return p, nil
	}
	return identity.Principal{}, refuse("no proof", "%q has not proved who it is, which this party requires",
		p.Name)
}
