package store

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"time"

	"github.com/uptrace/bun"
)

// secretBytes is the length of a secret.
const secretBytes = 32

// Secret is a secret that the processes of this party share.
type Secret struct {
	bun.BaseModel `bun:"table:t_secret,alias:sec" json:"-"`

	Name      string    `bun:"name,pk"`
	Value     string    `bun:"value"` // base64
	CreatedAt time.Time `bun:"created_at"`
}

// Secret returns 32 random bytes that every process of the party gets under this name. The first caller makes
// them.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	value := make([]byte, secretBytes)
	_, _ = rand.Read(value) // crypto/rand's Read never fails
	row := Secret{Name: name, Value: base64.StdEncoding.EncodeToString(value),
		CreatedAt: normalizeTime(time.Now())}
	if _, err := s.w.NewInsert().Model(&row).On("CONFLICT (name) DO NOTHING").Exec(ctx); err != nil {
		return nil, wrap(err, "make the secret %s", name)
	}
	var kept Secret
	if err := s.w.NewSelect().Model(&kept).Where("name = ?", name).Scan(ctx); err != nil {
		return nil, wrap(err, "read the secret %s", name)
	}
	value, err := base64.StdEncoding.DecodeString(kept.Value)
	return value, wrap(err, "decode the secret %s", name)
}
