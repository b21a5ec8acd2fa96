package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/bfia"
	"hutong/bfia/client"
)

// SendCreateInput names a job and the party at which it is created.
type SendCreateInput struct {
	Node  string `json:"node"`
	JobID string `json:"job_id"`
	// Reserve asks the party to reserve what the job needs as it creates the job.
	Reserve *bfia.ReserveRequest `json:"reserve,omitempty"`
}

// Party returns the receiver.
func (in SendCreateInput) Party() string { return in.Node }

// SendCreate creates a job at a party (BFIA part 2, 3.2), and returns the party's answer.
func (a *Activities) SendCreate(ctx context.Context, in SendCreateInput) (bfia.JobAccepted, error) {
	body, err := a.Documents.Document(ctx, in.JobID)
	if err != nil {
		return bfia.JobAccepted{}, fmt.Errorf("failed to read the document of job %s: %w", in.JobID, err)
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return bfia.JobAccepted{}, activities.Refuse(err)
	}

	permits, err := a.Documents.JobPermits(ctx, in.JobID)
	if err != nil {
		return bfia.JobAccepted{}, fmt.Errorf("failed to read the permits of job %s: %w", in.JobID, err)
	}

	own := bfia.PermitsFor(in.Node, permits)
	if in.Reserve != nil {
		accepted, err := a.Client.CreateReserved(ctx, in.Node, doc, *in.Reserve, own...)

		return accepted, a.result(ctx, in.Node, err)
	}
	accepted, err := a.Client.Create(ctx, in.Node, doc, own...)

	return accepted, a.result(ctx, in.Node, err)
}

// SendStartInput names a job and a party at which it is started.
type SendStartInput struct {
	Node  string `json:"node"`
	JobID string `json:"job_id"`
}

// Party returns the receiver.
func (in SendStartInput) Party() string { return in.Node }

// SendStart starts a job at a party (BFIA part 2, 3.3).
func (a *Activities) SendStart(ctx context.Context, in SendStartInput) error {
	return a.result(ctx, in.Node, a.Client.Start(ctx, in.Node, in.JobID))
}

// SendReserveInput is a reservation request to a party.
type SendReserveInput struct {
	Node    string              `json:"node"`
	Request bfia.ReserveRequest `json:"request"`
}

// SendReserve asks a party to reserve what a job needs there.
func (a *Activities) SendReserve(ctx context.Context, in SendReserveInput) (bfia.Grant, error) {
	grant, err := a.Client.Reserve(ctx, in.Node, in.Request)

	return grant, a.result(ctx, in.Node, err)
}

// SendReleaseInput is the release of a reservation at a party.
type SendReleaseInput struct {
	Node    string              `json:"node"`
	Request bfia.ReleaseRequest `json:"request"`
}

// SendRelease releases a job's reservation at a party, or withdraws its request.
func (a *Activities) SendRelease(ctx context.Context, in SendReleaseInput) error {
	return a.result(ctx, in.Node, a.Client.Release(ctx, in.Node, in.Request))
}

// SendTaskStartInput names an attempt of a task and a party at which it is started.
type SendTaskStartInput struct {
	Node string       `json:"node"`
	Task bfia.TaskRef `json:"task"`
}

// Party returns the receiver.
func (in SendTaskStartInput) Party() string { return in.Node }

// SendTaskStart starts a task at a party (BFIA part 2, 3.4). A party of another implementation may run a task
// twice if the command is repeated. A second try therefore asks first whether the party has started the task.
func (a *Activities) SendTaskStart(ctx context.Context, in SendTaskStartInput) error {
	if activity.GetInfo(ctx).Attempt > 1 {
		started, err := a.hasStarted(ctx, in.Node, in.Task.TaskID)
		if err != nil || started {
			return a.result(ctx, in.Node, err)
		}
	}

	return a.result(ctx, in.Node, a.Client.TaskStart(ctx, in.Node, in.Task))
}

// hasStarted asks whether a party has started a task. A refusal of the question means that it has not.
func (a *Activities) hasStarted(ctx context.Context, node, taskID string) (bool, error) {
	result, err := a.Client.TaskPoll(ctx, node, taskID, "")
	var answer *client.Error
	switch {
	case err == nil:
		return result.Status != bfia.TaskReady && result.Status != bfia.TaskPending, nil
	case errors.As(err, &answer) && answer.Outcome == client.Refused:
		return false, nil
	}

	return false, err
}

// SendStopInput names a job, or a task of it, and a party at which it is stopped.
type SendStopInput struct {
	Node string      `json:"node"`
	Job  bfia.JobRef `json:"job"`
}

// Party returns the receiver.
func (in SendStopInput) Party() string { return in.Node }

// SendStop stops a job, or a task and all that depends on it, at a party (BFIA part 2, 3.6).
func (a *Activities) SendStop(ctx context.Context, in SendStopInput) error {
	return a.result(ctx, in.Node, a.Client.Stop(ctx, in.Node, in.Job))
}

const (
	// endPollInterval is the polling interval of tasks after a stop was sent to their party; endPollLimit
	// bounds the polling.
	endPollInterval = 200 * time.Millisecond
	endPollLimit    = 20 * time.Second
)

// SendStopAgainInput names a job whose stop was sent to a party, and its tasks that failed there.
type SendStopAgainInput struct {
	Node    string      `json:"node"`
	Job     bfia.JobRef `json:"job"`
	TaskIDs []string    `json:"task_ids"`
}

// Party returns the receiver.
func (in SendStopAgainInput) Party() string { return in.Node }

// SendStopAgain repeats job/stop to a party once the given tasks have ended there, or after a limit.
func (a *Activities) SendStopAgain(ctx context.Context, in SendStopAgainInput) error {
	limit := time.Now().Add(endPollLimit)
	for _, id := range in.TaskIDs {
		for !a.hasEnded(ctx, in.Node, id) && time.Now().Before(limit) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(endPollInterval):
			}
		}
	}

	return a.SendStop(ctx, SendStopInput{Node: in.Node, Job: in.Job})
}

// hasEnded asks whether a task has ended at a party. A task that the party does not know, or refuses to
// report, has.
func (a *Activities) hasEnded(ctx context.Context, node, taskID string) bool {
	result, err := a.Client.TaskPoll(ctx, node, taskID, "")
	var answer *client.Error

	return err == nil && result.Status.Terminal() || errors.As(err, &answer) &&
		answer.Outcome == client.Refused
}

func (a *Activities) result(ctx context.Context, node string, err error) error {
	return activities.CommandError(ctx, a.Logger, node, err)
}
