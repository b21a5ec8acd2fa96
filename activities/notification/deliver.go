package notification

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/notify"
)

// DeliverNotification sends a notification once and records what became of it. One that is delivered, or that
// is removed with its job, is not sent. If the process dies between the receiver's answer and its record, the
// message is sent again with the same id.
func (a *Activities) DeliverNotification(ctx context.Context, in Delivery) error {
	n, err := a.Store.Notification(ctx, in.ID)
	switch {
	case bfia.CodeOf(err) == bfia.CodeNotFound:
		return nil
	case err != nil:
		return err
	case n.Round != in.Round, n.State == bfia.NotificationDelivered, n.State == bfia.NotificationFailed:
		return nil
	}
	var e notify.Event
	if err := json.Unmarshal([]byte(n.Content), &e); err != nil {
		return temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("failed to decode notification %s: %v", n.NotificationID, err),
			activities.FailureRefused, err)
	}

	answer, err := a.send(ctx, n.Receiver, n.NotificationID, e)
	if err == nil {
		return a.Store.RecordDelivery(ctx, n.NotificationID, n.Round, answer)
	}
	a.Logger.Warn("failed to deliver a notification", "notification_id", n.NotificationID,
		"receiver", n.Receiver, "job_id", n.JobID, "attempt", activity.GetInfo(ctx).Attempt, "error", err)
	if recorded := a.Store.RecordDeliveryError(ctx, n.NotificationID, n.Round, err.Error()); recorded != nil {
		a.Logger.Warn("failed to record why a notification was not delivered",
			"notification_id", n.NotificationID, "error", recorded)
	}
	if errors.Is(err, notify.ErrGone) {
		return temporal.NewNonRetryableApplicationError(err.Error(), activities.FailureRefused, err)
	}
	return err
}

// send sends a message to a receiver. A receiver that the configuration of this process lacks may be known to
// another one, so that is no reason to give up.
func (a *Activities) send(ctx context.Context, receiver, id string, e notify.Event) (string, error) {
	r, known := a.Sender.Receiver(receiver)
	if !known {
		return "", fmt.Errorf("the configuration has no receiver %s any more", receiver)
	}
	return a.Sender.Send(ctx, r, id, e)
}

// GiveUpNotificationInput names a round of a notification, and why it ends.
type GiveUpNotificationInput struct {
	Delivery
	Reason string `json:"reason"`
}

// GiveUpNotification records that no more tries of a notification follow.
func (a *Activities) GiveUpNotification(ctx context.Context, in GiveUpNotificationInput) error {
	return a.Store.GiveUpNotification(ctx, in.ID, in.Round, in.Reason)
}
