package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Notification is one message to one receiver, with what became of it.
type Notification struct {
	bun.BaseModel `bun:"table:t_notification,alias:n" json:"-"`

	NotificationID string                 `bun:"notification_id,pk"`
	Event          string                 `bun:"event"`
	ObjectID       string                 `bun:"object_id"`
	OccurredAt     time.Time              `bun:"occurred_at"`
	Receiver       string                 `bun:"receiver"`
	JobID          string                 `bun:"job_id"`
	Content        string                 `bun:"content"`
	State          bfia.NotificationState `bun:"state"`
	// Round counts from 1 how often the notification was sent: each [Store.ResendNotification] adds one.
	Round       int        `bun:"round"`
	Attempts    int        `bun:"attempts"`
	LastError   string     `bun:"last_error"`
	Answer      string     `bun:"answer"`
	CreatedAt   time.Time  `bun:"created_at"`
	UpdatedAt   time.Time  `bun:"updated_at"`
	DeliveredAt *time.Time `bun:"delivered_at"`
}

var _ bun.AfterScanRowHook = (*Notification)(nil)

// AfterScanRow normalizes the times.
func (n *Notification) AfterScanRow(context.Context) error {
	normalizeTimes(&n.OccurredAt, &n.CreatedAt, &n.UpdatedAt, n.DeliveredAt)
	return nil
}

// MaxNotifications bounds a list of notifications.
const MaxNotifications = 500

// NotificationFilter selects notifications. The zero value selects the last ones.
type NotificationFilter struct {
	State    bfia.NotificationState
	Receiver string
	JobID    string
	ID       string // of one notification
	Limit    int    // 1 to MaxNotifications; 0 is MaxNotifications
}

// Notifications returns notifications, newest first.
func (s *Store) Notifications(ctx context.Context, f NotificationFilter) ([]Notification, error) {
	if err := checkText("state", string(f.State), "receiver", f.Receiver, "job_id", f.JobID,
		"notification_id", f.ID); err != nil {
		return nil, err
	}
	if f.Limit < 0 || f.Limit > MaxNotifications {
		return nil, bfia.Errorf(bfia.CodeBadRequest, "limit: %d is not between 1 and %d", f.Limit,
			MaxNotifications)
	}
	if f.Limit == 0 {
		f.Limit = MaxNotifications
	}
	var rows []Notification
	q := s.r.NewSelect().Model(&rows).OrderExpr("created_at DESC, notification_id DESC").Limit(f.Limit)
	if f.State != "" {
		q.Where("state = ?", f.State)
	}
	if f.Receiver != "" {
		q.Where("receiver = ?", f.Receiver)
	}
	if f.JobID != "" {
		q.Where("job_id = ?", f.JobID)
	}
	if f.ID != "" {
		q.Where("notification_id = ?", f.ID)
	}
	return rows, wrap(q.Scan(ctx), "list notifications")
}

// Notification returns one notification, or CodeNotFound.
func (s *Store) Notification(ctx context.Context, id string) (Notification, error) {
	var row Notification
	if err := checkText("notification_id", id); err != nil {
		return row, err
	}
	err := selectOne(ctx, s.w.NewSelect().Where("notification_id = ?", id), &row,
		"notification_id: notification %q", id)
	return row, err
}

// NewNotifications returns the notifications whose delivery has not started, oldest first.
func (s *Store) NewNotifications(ctx context.Context, limit int) ([]Notification, error) {
	var rows []Notification
	err := s.w.NewSelect().Model(&rows).Where("state = ?", bfia.NotificationNew).
		Order("created_at", "notification_id").Limit(limit).Scan(ctx)
	return rows, wrap(err, "list new notifications")
}

// StartNotification records that the delivery of a round of a notification has started.
func (s *Store) StartNotification(ctx context.Context, id string, round int) error {
	_, err := s.w.NewUpdate().Model((*Notification)(nil)).
		Set("state = ?, updated_at = ?", bfia.NotificationSending, normalizeTime(time.Now())).
		Where("notification_id = ? AND round = ? AND state = ?", id, round, bfia.NotificationNew).Exec(ctx)
	return wrap(err, "record the start of notification %s", id)
}

// undelivered selects a round of a notification that is not delivered.
func undelivered(q *bun.UpdateQuery, id string, round int) *bun.UpdateQuery {
	return q.Model((*Notification)(nil)).Set("updated_at = ?", normalizeTime(time.Now())).
		Where("notification_id = ? AND round = ? AND state <> ?", id, round, bfia.NotificationDelivered)
}

// RecordDelivery records that a receiver has taken a notification, with its answer.
func (s *Store) RecordDelivery(ctx context.Context, id string, round int, answer string) error {
	_, err := undelivered(s.w.NewUpdate(), id, round).Set("state = ?", bfia.NotificationDelivered).
		Set("attempts = attempts + 1, last_error = '', answer = ?", cleanReason(answer)).
		Set("delivered_at = ?", normalizeTime(time.Now())).Exec(ctx)
	return wrap(err, "record the delivery of notification %s", id)
}

// RecordDeliveryError records that a try to deliver a notification has failed.
func (s *Store) RecordDeliveryError(ctx context.Context, id string, round int, reason string) error {
	_, err := undelivered(s.w.NewUpdate(), id, round).
		Set("attempts = attempts + 1, last_error = ?", cleanReason(reason)).Exec(ctx)
	return wrap(err, "record a failed delivery of notification %s", id)
}

// GiveUpNotification records that no more tries follow. The reason of the last try stays, if there is one.
func (s *Store) GiveUpNotification(ctx context.Context, id string, round int, reason string) error {
	_, err := undelivered(s.w.NewUpdate(), id, round).Set("state = ?", bfia.NotificationFailed).
		Set("last_error = CASE WHEN last_error = '' THEN ? ELSE last_error END", cleanReason(reason)).
		Exec(ctx)
	return wrap(err, "record the end of notification %s", id)
}

// GiveUpStaleNotifications records that the notifications which were last tried before a time are not tried
// any more, because Temporal lost their workflows.
func (s *Store) GiveUpStaleNotifications(ctx context.Context, before time.Time) error {
	_, err := s.w.NewUpdate().Model((*Notification)(nil)).Set("state = ?", bfia.NotificationFailed).
		Set("last_error = CASE WHEN last_error = '' THEN ? ELSE last_error END",
			"Temporal no longer runs its delivery").
		Where("state = ? AND updated_at < ?", bfia.NotificationSending, normalizeTime(before)).Exec(ctx)
	return wrap(err, "record the end of notifications that Temporal lost")
}

// ResendNotification makes a notification that was delivered, or given up, new again.
func (s *Store) ResendNotification(ctx context.Context, id string) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		n, err := affected(tx.NewUpdate().Model((*Notification)(nil)).
			Set("state = ?, round = round + 1, delivered_at = NULL", bfia.NotificationNew).
			Set("last_error = '', answer = '', updated_at = ?", normalizeTime(time.Now())).
			Where("notification_id = ? AND state IN (?)", id, bun.List([]bfia.NotificationState{
				bfia.NotificationDelivered, bfia.NotificationFailed})).Exec(ctx))
		if err != nil || n > 0 {
			return err
		}
		var row Notification
		if err := selectOne(ctx, tx.NewSelect().Where("notification_id = ?", id), &row,
			"notification_id: notification %q", id); err != nil {
			return err
		}
		return bfia.Errorf(bfia.CodeConflict, "notification_id: notification %s is being sent already; wait "+
			"until it is %s or %s", id, bfia.NotificationDelivered, bfia.NotificationFailed)
	}), "send notification %s again", id)
}

// RemoveNotifications deletes notifications that were created before a time and are not being sent, and
// returns how many.
func (s *Store) RemoveNotifications(ctx context.Context, before time.Time) (int, error) {
	n, err := affected(s.w.NewDelete().Model((*Notification)(nil)).
		Where("created_at < ? AND state IN (?)", normalizeTime(before), bun.List([]bfia.NotificationState{
			bfia.NotificationDelivered, bfia.NotificationFailed})).Exec(ctx))
	return n, wrap(err, "remove old notifications")
}
