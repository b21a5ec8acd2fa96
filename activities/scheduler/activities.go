// Package scheduler holds the activities of a job at its scheduler: its rows, its place in the queue, and the
// commands to the job's parties.
package scheduler

import (
	"context"
	"log/slog"

	"hutong/activities"
	"hutong/admission"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/store"
)

// Activities are the activities of a job at its scheduler. All exported methods are registered with Temporal.
type Activities struct {
	Node  string
	Store *store.Store
	// Documents holds the documents that are sent to the job's parties.
	Documents Documents
	// Limits bound what runs at once at this scheduler.
	Limits admission.Limits
	Client *client.Client
	// OnPollEnd is called once a poll has found that a task has ended. It may be nil.
	OnPollEnd func()
	// OnWait reports to the job's workflow what a task waits for at a party; nil leaves that to the rows.
	OnWait func(ctx context.Context, jobID string, wait activities.PartWait) error
	Logger *slog.Logger
}

// Documents returns the document of a job as it was submitted, and the permits that its initiator sent.
type Documents interface {
	Document(ctx context.Context, jobID string) ([]byte, error)
	JobPermits(ctx context.Context, jobID string) ([]bfia.Permit, error)
}
