package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// Token is a bearer token of a client, or the token of its app of FATE-Flow's client authentication. The
// token itself is not stored, and can't be computed from the row.
type Token struct {
	bun.BaseModel `bun:"table:t_token,alias:t" json:"-"`

	TokenID string `bun:"token_id,pk"`
	Hash    []byte `bun:"hash"` // the SHA-256 of the token
	// App: the token is that of an app, whose id is TokenID. It is never a bearer token.
	App bool `bun:"app"`
	// Name is the name of the user or program that holds it. Several tokens may have one name.
	Name      string     `bun:"name"`
	Roles     []string   `bun:"roles"`
	CreatedBy string     `bun:"created_by"`
	CreatedAt time.Time  `bun:"created_at"`
	ExpiresAt *time.Time `bun:"expires_at"` // nil: never
	RevokedAt *time.Time `bun:"revoked_at"`
	// LastUsedOn is the last day on which it was used, as 2006-01-02 in UTC, or empty.
	LastUsedOn string `bun:"last_used_on"`
}

var _ bun.AfterScanRowHook = (*Token)(nil)

// AfterScanRow normalizes the times.
func (t *Token) AfterScanRow(context.Context) error {
	normalizeTimes(&t.CreatedAt, t.ExpiresAt, t.RevokedAt)
	return nil
}

// CreateToken records a new token. It returns CodeConflict if its id or hash exists, and CodeNotFound if a
// role is of a project that does not exist.
func (s *Store) CreateToken(ctx context.Context, t Token) error {
	if err := checkText(append(fieldValues("roles", t.Roles), "token_id", t.TokenID, "name", t.Name,
		"created_by", t.CreatedBy)...); err != nil {
		return err
	}
	if t.Roles == nil {
		t.Roles = []string{}
	}
	t.CreatedAt = timeOrNow(t.CreatedAt)
	if t.ExpiresAt != nil {
		expires := normalizeTime(*t.ExpiresAt)
		t.ExpiresAt = &expires
	}
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		for _, role := range t.Roles {
			if _, project, all := identity.Role(role).Project(); !all {
				if err := s.holdProject(ctx, tx, project); err != nil {
					return bfia.PrefixPlace("roles", err)
				}
			}
		}
		_, err := tx.NewInsert().Model(&t).Exec(ctx)
		return err
	})
	if isDuplicate(err) {
		err = bfia.Wrap(bfia.CodeConflict, err, "token_id: token %s exists already", t.TokenID)
	}
	return wrap(err, "record token %s", t.TokenID)
}

// TokenByHash returns the token with a hash, also an expired or revoked one. found is false for an unknown
// hash. It reads the writer's connection, so that no process accepts a token that another one has revoked.
func (s *Store) TokenByHash(ctx context.Context, hash []byte) (t Token, found bool, err error) {
	err = s.w.NewSelect().Model(&t).Where("hash = ?", hash).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, false, nil
	}
	return t, err == nil, wrap(err, "read a token")
}

// TokenByID returns a token by its id, also an expired or revoked one. found is false for an unknown id. It
// reads the writer's connection, as [Store.TokenByHash].
func (s *Store) TokenByID(ctx context.Context, tokenID string) (t Token, found bool, err error) {
	err = s.w.NewSelect().Model(&t).Where("token_id = ?", tokenID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return Token{}, false, nil
	}
	return t, err == nil, wrap(err, "read token %s", tokenID)
}

// UseToken records that a token was used on the day of now. It writes once a day.
func (s *Store) UseToken(ctx context.Context, t Token, now time.Time) error {
	day := now.UTC().Format(time.DateOnly)
	if t.LastUsedOn >= day {
		return nil
	}
	_, err := s.w.NewUpdate().Model((*Token)(nil)).Set("last_used_on = ?", day).
		Where("token_id = ? AND last_used_on < ?", t.TokenID, day).Exec(ctx)
	return wrap(err, "record the use of token %s", t.TokenID)
}

// Tokens returns all tokens, oldest first, without their hashes.
func (s *Store) Tokens(ctx context.Context) ([]Token, error) {
	var tokens []Token
	err := s.r.NewSelect().Model(&tokens).ExcludeColumn("hash").Order("created_at", "token_id").Scan(ctx)
	return tokens, wrap(err, "list tokens")
}

// RevokeToken revokes a token for ever. A revoked token keeps the time of its revocation. It returns
// CodeNotFound for an unknown token.
func (s *Store) RevokeToken(ctx context.Context, tokenID string, at time.Time) error {
	if err := checkText("token_id", tokenID); err != nil {
		return err
	}
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewUpdate().Model((*Token)(nil)).
			Set("revoked_at = COALESCE(revoked_at, ?)", normalizeTime(at)).
			Where("token_id = ?", tokenID).Exec(ctx))
		if err == nil && n == 0 {
			return bfia.Errorf(bfia.CodeNotFound, "token_id: token %q is not known", tokenID)
		}
		return err
	})
	return wrap(err, "revoke token %s", tokenID)
}
