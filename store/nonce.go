package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// nonce is a nonce that a partner, or an app of a client, has used.
type nonce struct {
	bun.BaseModel `bun:"table:t_nonce,alias:n"`

	NodeID string `bun:"node_id,pk"`
	Nonce  string `bun:"nonce,pk"`
	// Request is a digest of the request, if it may come again with the same nonce.
	Request string    `bun:"request"`
	UsedAt  time.Time `bun:"used_at"`
}

// UseNonce records that a partner, or an app of a client, has signed a request with a nonce. accepted is
// false if any process that shares the database has recorded the nonce before: the request is a replay. Of
// concurrent calls one is accepted.
//
// A protocol whose senders repeat a request with the same nonce gives a digest of the request. The nonce is
// then accepted again for the same request, and for no other.
func (s *Store) UseNonce(ctx context.Context, nodeID, value, request string) (accepted bool, err error) {
	if err := checkText("node_id", nodeID, "nonce", value, "request", request); err != nil {
		return false, err
	}
	now := normalizeTime(time.Now()) // SQLite is in this process
	row := nonce{NodeID: nodeID, Nonce: value, Request: request, UsedAt: now}
	insert := s.w.NewInsert().Model(&row)
	if s.pg {
		insert = insert.Value("used_at", "clock_timestamp()")
	}
	n, err := affected(insert.On("CONFLICT (node_id, nonce) DO NOTHING").Exec(ctx))
	if err != nil || n == 1 || request == "" {
		return n == 1, wrap(err, "record a nonce of node %s", nodeID)
	}
	same, err := s.w.NewSelect().Model((*nonce)(nil)).
		Where("node_id = ? AND nonce = ? AND request = ?", nodeID, value, request).Exists(ctx)
	return same, wrap(err, "read a nonce of node %s", nodeID)
}

// RemoveNonces deletes nonces that were recorded longer than age ago by the database's clock, and returns how
// many.
func (s *Store) RemoveNonces(ctx context.Context, age time.Duration) (int, error) {
	remove := s.w.NewDelete().Model((*nonce)(nil))
	if s.pg {
		remove = remove.Where("used_at < clock_timestamp() - make_interval(secs => ?)", age.Seconds())
	} else {
		remove = remove.Where("used_at < ?", normalizeTime(time.Now().Add(-age)))
	}
	n, err := affected(remove.Exec(ctx))
	return n, wrap(err, "remove old nonces")
}
