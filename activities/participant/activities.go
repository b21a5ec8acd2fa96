// Package participant holds the activities of a job at a participant: its rows, its reservation, the runners
// of its tasks, and the reports to its scheduler.
package participant

import (
	"context"
	"log/slog"
	"net/http"

	"hutong/admission"
	"hutong/bfia/client"
	"hutong/store"
	"hutong/store/blob"
)

// Activities are the activities of a job at a participant. All exported methods are registered with Temporal.
type Activities struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// CheckDatasets refuses a job whose root datasets are not registered at this party.
	CheckDatasets bool
	// Limits bound what runs at once at this party.
	Limits admission.Limits
	Client *client.Client
	// Holders returns the base URLs of the party's transports at which to release a session: that of the one
	// that holds it, "" if none does, and those of the others that are online.
	Holders func(ctx context.Context, session string) (holder string, others []string, err error)
	HTTP    *http.Client // for them
	Logger  *slog.Logger
}
