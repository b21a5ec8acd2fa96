// Package notification holds the activities that find what people should know, and deliver it.
package notification

import (
	"context"
	"log/slog"
	"time"

	"hutong/internal/notify"
	"hutong/store"
)

// Sender sends a message of an event to a receiver of the configuration, once.
type Sender interface {
	Receiver(name string) (*notify.Receiver, bool)
	Wanting(e notify.Event) []string
	Send(ctx context.Context, r *notify.Receiver, id string, e notify.Event) (answer string, err error)
}

// Activities holds the activities of notifications. All exported methods are registered with Temporal.
type Activities struct {
	Node   string
	Store  *store.Store
	Sender Sender
	// Started is when the process started. A runner of the same machine may send its first heartbeat later.
	Started time.Time
	// PartnerSilence is how long a partner must not have answered before it counts as silent.
	PartnerSilence time.Duration
	Logger         *slog.Logger
}
