package participant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"hutong/activities"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/fateflow"
	"hutong/store"
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

// ReleaseSessionInput names a session of the party's transport.
type ReleaseSessionInput struct {
	Session string `json:"session"`
}

// ReleaseSession ends a job's session in the party's own transport, with the messages that were not read
// (BFIA part 4, 3.2.4).
func (a *Activities) ReleaseSession(ctx context.Context, in ReleaseSessionInput) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Transport+"/v1/interconn/chan/release",
		strings.NewReader("{}"))
	if err != nil {
		return err
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-ptp-session-id", in.Session)
	req.Header.Set("x-ptp-target-node-id", a.Client.NodeID)
	// It ends the session, and not only its messages. Containers may have derived sessions of their own from
	// it.
	final := "derived"
	jobID := strings.TrimPrefix(in.Session, bfia.SessionID(""))
	if other, err := a.Store.HasUnfinishedJobLike(ctx, jobID+bfia.DerivedSession); err != nil {
		return err
	} else if other {
		// they can't be distinguished from the sessions of the other job; they expire when idle
		final = "true"
	}
	req.Header.Set("x-ptp-final", final)
	resp, err := a.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("failed to release session %s at the transport: %w", in.Session, err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxTransfers))
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("failed to release session %s at the transport: HTTP %d", in.Session,
			resp.StatusCode)
	}
	if err != nil {
		return fmt.Errorf("failed to release session %s at the transport: %w", in.Session, err)
	}

	return a.recordTransfers(ctx, in.Session, answer)
}

// maxTransfers bounds the transport's answer to a release.
const maxTransfers = 16 << 20

// recordTransfers records the bytes that a released session has exchanged with partners, which the
// transport's answer holds. A transport of an earlier version counts none.
func (a *Activities) recordTransfers(ctx context.Context, session string, answer []byte) error {
	var released struct {
		Payload []byte `json:"content"`
	}
	if err := json.Unmarshal(answer, &released); err != nil || len(released.Payload) == 0 {
		a.Logger.Warn("the transport has not reported the bytes of a session; the job's evidence lacks them",
			"session_id", session)
		return nil
	}
	var transfers []store.Transfer
	if err := json.Unmarshal(released.Payload, &transfers); err != nil {
		return fmt.Errorf("failed to read the transfers of session %s: %w", session, err)
	}
	return a.Store.RecordTransfers(ctx, session, transfers)
}

func (a *Activities) result(ctx context.Context, node string, err error) error {
	return activities.CommandError(ctx, a.Logger, node, err)
}
