package clients

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

// TokenPrefix is the beginning of every bearer token of a party. Scanners for leaked secrets find it.
const TokenPrefix = "ht_"

// tokenIDPrefix is the beginning of every token's id.
const tokenIDPrefix = "t-"

// tokenBytes is the entropy of a token. It has so much that its hash needs no salt and no slow function.
const tokenBytes = 32

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// IsToken reports whether credentials claim to be a bearer token of a party.
func IsToken(credentials string) bool { return strings.HasPrefix(credentials, TokenPrefix) }

// maxName bounds the bytes of a client's name.
const maxName = 128

// NewToken makes a token for a client, and the row that [store.Store.CreateToken] records of it. Only the
// caller knows the token itself. expires is nil for a token that does not expire.
func NewToken(name string, roles []identity.Role, createdBy string, expires *time.Time) (secret string,
	row store.Token, err error) {
	if row, err = newRow(name, roles, createdBy, expires); err != nil {
		return "", row, err
	}
	b := make([]byte, tokenBytes)
	_, _ = rand.Read(b) // never fails
	secret = TokenPrefix + tokenEncoding.EncodeToString(b)
	row.Hash = hashToken(secret)
	return secret, row, nil
}

// newRow returns the row of a token without its hash.
func newRow(name string, roles []identity.Role, createdBy string, expires *time.Time) (row store.Token,
	err error) {
	if err := CheckName("name", name); err != nil {
		return row, err
	}
	if len(roles) == 0 {
		return row, bfia.Errorf(
			bfia.CodeBadRequest,
			"roles: is empty; the roles are %v",
			identity.Roles(),
		)
	}
	row = store.Token{TokenID: tokenIDPrefix + strings.ToLower(rand.Text()[:12]), Name: name,
		CreatedBy: createdBy, ExpiresAt: expires}
	for _, role := range roles {
		if err := role.Check(); err != nil {
			return row, bfia.Wrap(bfia.CodeBadRequest, err, "roles: %v", err)
		}
		row.Roles = append(row.Roles, string(role))
	}
	return row, nil
}

// CheckName checks the name of a client: it appears in lists, logs and the audit trail.
func CheckName(field, name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' })
	if name == "" || len(name) > maxName || bad || strings.TrimSpace(name) != name {
		return bfia.Errorf(
			bfia.CodeBadRequest,
			"%s: must be 1 to %d bytes without control characters or spaces around them, such as alice",
			field,
			maxName,
		)
	}
	return nil
}

func hashToken(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// byToken returns the client that holds a bearer token. It asks the database for each request, so that a
// revoked token ends at once in all processes.
func (a *Authenticator) byToken(ctx context.Context, secret string) (identity.Principal, error) {
	unknown := refuse("unknown token",
		"header Authorization: this party does not know the token; ask an administrator for another one")
	if b, err := tokenEncoding.DecodeString(strings.TrimPrefix(secret, TokenPrefix)); err != nil ||
		len(b) != tokenBytes {
		return identity.Principal{}, unknown
	}
	// The index finds the hash, and the token has too much entropy to approach its hash step by step. The
	// comparison in constant time also holds if a database compares bytes loosely.
	hash := hashToken(secret)
	t, found, err := a.tokens.TokenByHash(ctx, hash)
	if err != nil {
		return identity.Principal{}, err
	}
	if !found || t.App || subtle.ConstantTimeCompare(hash, t.Hash) != 1 {
		return identity.Principal{}, unknown
	}
	now := a.now()
	if err := checkLife(t, "header Authorization: token", now); err != nil {
		return identity.Principal{}, err
	}
	if err := a.tokens.UseToken(ctx, t, now); err != nil {
		return identity.Principal{}, err
	}
	return holder(t, identity.ByToken), nil
}

// checkLife returns the refusal of a token that is revoked or expired. what is the beginning of its message.
func checkLife(t store.Token, what string, now time.Time) error {
	switch {
	case t.RevokedAt != nil:
		return refuse("revoked", "%s %s of %s was revoked on %s; ask an administrator for another one",
			what, t.TokenID, t.Name, t.RevokedAt.Format(time.DateOnly))
	case t.ExpiresAt != nil && !now.Before(*t.ExpiresAt):
		return refuse("expired", "%s %s of %s expired at %s; ask an administrator for another one",
			what, t.TokenID, t.Name, t.ExpiresAt.Format(time.RFC3339))
	}
	return nil
}

// holder returns the client that has proved that it holds a token.
func holder(t store.Token, proof identity.Proof) identity.Principal {
	p := identity.Principal{Kind: identity.KindClient, Name: t.Name, Proof: proof, Credential: t.TokenID}
	if t.ExpiresAt != nil {
		p.Expires = *t.ExpiresAt
	}
	for _, role := range t.Roles {
		p.Roles = append(p.Roles, identity.Role(role))
	}
	return p
}
