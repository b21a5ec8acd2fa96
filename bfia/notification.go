package bfia

import "time"

// The endpoints of notifications. They are Hutong's addition.
const (
	PathNotificationQuery  = "/v2/notification/query"
	PathNotificationTest   = "/v2/notification/test"
	PathNotificationResend = "/v2/notification/resend"
)

// NotificationState is the state of a notification.
type NotificationState string

// The states of notifications.
const (
	NotificationNew       NotificationState = "NEW"
	NotificationSending   NotificationState = "SENDING" // also while it is tried again
	NotificationDelivered NotificationState = "DELIVERED"
	NotificationFailed    NotificationState = "FAILED" // after a day of tries, or the receiver refuses it
)

// NotificationStates returns all states.
func NotificationStates() []NotificationState {
	return []NotificationState{NotificationNew, NotificationSending, NotificationDelivered,
		NotificationFailed}
}

// NotificationView is a notification as clients see it.
type NotificationView struct {
	NotificationID string            `json:"notification_id"`
	Event          string            `json:"event"`
	ObjectID       string            `json:"object_id"` // a job, a request for a grant, or a runner
	JobID          string            `json:"job_id,omitempty"`
	Receiver       string            `json:"receiver"`
	State          NotificationState `json:"state"`
	Attempts       int               `json:"attempts"`
	OccurredAt     time.Time         `json:"occurred_at"`
	CreatedAt      time.Time         `json:"created_at"`
	DeliveredAt    *time.Time        `json:"delivered_at,omitempty"`
	// LastError is why the last try failed; empty once it is delivered.
	LastError string `json:"last_error,omitempty"`
	Answer    string `json:"answer,omitempty"` // of the receiver that has taken it
}

// NotificationReceiver is a receiver of the party's configuration, without its secrets.
type NotificationReceiver struct {
	Name    string   `json:"name"`
	Channel string   `json:"channel"` // webhook or email
	Target  string   `json:"target"`  // the host of the webhook, or the addresses
	Events  []string `json:"events"`
}

// NotificationList is the answer of [PathNotificationQuery].
type NotificationList struct {
	Receivers     []NotificationReceiver `json:"receivers"`
	Notifications []NotificationView     `json:"notifications"` // newest first
}

// NotificationTest is the body of a request to [PathNotificationTest].
type NotificationTest struct {
	Receiver string `json:"receiver"`
}

// NotificationTestResult says how a receiver has answered a test message.
type NotificationTestResult struct {
	NotificationID string `json:"notification_id"`
	Receiver       string `json:"receiver"`
	Delivered      bool   `json:"delivered"`
	Answer         string `json:"answer"` // of the receiver, or why it was not delivered
}

// NotificationRef is the body of a request to [PathNotificationResend].
type NotificationRef struct {
	NotificationID string `json:"notification_id"`
}
