package participant

import (
	"context"
	"errors"

	"hutong/activities"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/fateflow"
)

// SendAuditInput is this party's approval or rejection of a job.
type SendAuditInput struct {
	Node  string     `json:"node"`
	Audit bfia.Audit `json:"audit"`
}

// Party returns the receiver.
func (in SendAuditInput) Party() string { return in.Node }

// SendAudit sends the scheduler this party's approval or rejection of a job (BFIA part 2, 3.10).
func (a *Activities) SendAudit(ctx context.Context, in SendAuditInput) error {
	return a.result(ctx, in.Node, a.Client.AuditConfirm(ctx, in.Node, in.Audit))
}

// SendCallbackInput is the state of a part of a task.
type SendCallbackInput struct {
	Node   string          `json:"node"`
	Report bfia.TaskReport `json:"report"`
}

// Party returns the receiver.
func (in SendCallbackInput) Party() string { return in.Node }

// SendCallback reports a task's state to the scheduler (BFIA part 2, 3.9).
func (a *Activities) SendCallback(ctx context.Context, in SendCallbackInput) error {
	return a.result(ctx, in.Node, a.Client.TaskCallback(ctx, in.Node, in.Report))
}

// SendFateReportInput is the state of a part of a task in FATE-Flow's own protocol.
type SendFateReportInput struct {
	Node   string          `json:"node"`
	Report fateflow.Report `json:"report"`
}

// Party returns the receiver.
func (in SendFateReportInput) Party() string { return in.Node }

// SendFateReport reports the state of a part to a FATE-Flow that speaks its own protocol.
func (a *Activities) SendFateReport(ctx context.Context, in SendFateReportInput) error {
	return a.result(ctx, in.Node, fateflow.SendReport(ctx, a.Client, in.Node, in.Report))
}

// SendCapacityHintInput names a waiting job and its scheduler.
type SendCapacityHintInput struct {
	Node  string `json:"node"`
	JobID string `json:"job_id"`
}

// SendCapacityHint notifies a scheduler that this party may grant one of its jobs a reservation now. The hint
// is sent once, since the scheduler polls anyway.
func (a *Activities) SendCapacityHint(ctx context.Context, in SendCapacityHintInput) error {
	return a.result(ctx, in.Node, a.Client.CapacityHint(ctx, in.Node, in.JobID))
}

// SendStopAllInput names a job that this party has ended, and its scheduler.
type SendStopAllInput struct {
	Node string      `json:"node"`
	Job  bfia.JobRef `json:"job"`
}

// Party returns the receiver.
func (in SendStopAllInput) Party() string { return in.Node }

// SendStopAll asks a job's scheduler to stop the job (BFIA part 2, 3.5), unless it has ended there or is not
// known.
func (a *Activities) SendStopAll(ctx context.Context, in SendStopAllInput) error {
	answer, err := a.AskScheduler(ctx, AskSchedulerInput{Node: in.Node, JobID: in.Job.JobID})
	if err != nil || answer.Unknown || answer.State.Terminal() {
		return err
	}

	return a.result(ctx, in.Node, a.Client.StopAll(ctx, in.Node, in.Job))
}

// AskSchedulerInput names a job and its scheduler.
type AskSchedulerInput struct {
	Node  string `json:"node"`
	JobID string `json:"job_id"`
}

// SchedulerAnswer is what the scheduler of a job answers about it.
type SchedulerAnswer struct {
	State   bfia.JobState `json:"state,omitempty"`
	Failure *bfia.Failure `json:"failure,omitempty"`
	// Unknown is set if the scheduler has no such job, or no longer.
	Unknown bool `json:"unknown,omitempty"`
}

// AskScheduler asks a job's scheduler for the state of the job (BFIA part 2, 3.7).
func (a *Activities) AskScheduler(ctx context.Context, in AskSchedulerInput) (SchedulerAnswer, error) {
	status, err := a.Client.StatusAll(ctx, in.Node, in.JobID)
	var refusal *client.Error
	if errors.As(err, &refusal) && refusal.Outcome == client.Refused && refusal.Code == bfia.CodeNotFound {
		return SchedulerAnswer{Unknown: true}, nil // the code of Hutong; others have none for it
	}
	if err != nil {
		return SchedulerAnswer{}, a.result(ctx, in.Node, err)
	}

	answer := SchedulerAnswer{State: status.State, Failure: status.Failure.Truncate()}
	if answer.Failure == nil && answer.State == bfia.JobRejected {
		answer.Failure = &bfia.Failure{Kind: bfia.FailedRejected, By: in.Node, Message: status.Reason}
	}

	return answer, nil
}

func (a *Activities) result(ctx context.Context, node string, err error) error {
	return activities.CommandError(ctx, a.Logger, node, err)
}
