package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/fateflow"
)

// Documents gives the document of a job, as it came.
type Documents interface {
	Document(ctx context.Context, jobID string) ([]byte, error)
}

// Remote holds the commands to other parties, and to this party's own transport.
type Remote struct {
	Client    *client.Client
	Documents Documents
	// Transport is the base URL of the party's own transport.
	Transport string
	HTTP      *http.Client
	Logger    *slog.Logger
}

// SendCreate creates a job at a node (part 2, 3.2), and answers what the node tells beside its acceptance.
func (r *Remote) SendCreate(ctx context.Context, jobID, node string) (bfia.JobAccepted, error) {
	body, err := r.Documents.Document(ctx, jobID)
	if err != nil {
		return bfia.JobAccepted{}, fmt.Errorf("reading the document of job %s: %w", jobID, err)
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return bfia.JobAccepted{}, refused(err)
	}
	accepted, err := r.Client.Create(ctx, node, doc)
	return accepted, r.sent(ctx, node, err)
}

// SendAudit tells the scheduler this party's approval or rejection of a job (part 2, 3.10).
func (r *Remote) SendAudit(ctx context.Context, node string, audit bfia.Audit) error {
	return r.sent(ctx, node, r.Client.AuditConfirm(ctx, node, audit))
}

// SendStart starts a job at a node (part 2, 3.3).
func (r *Remote) SendStart(ctx context.Context, node, jobID string) error {
	return r.sent(ctx, node, r.Client.Start(ctx, node, jobID))
}

// SendReserve asks a node for the room that a job needs there.
func (r *Remote) SendReserve(ctx context.Context, node string, apply bfia.ReserveRequest) (bfia.Grant, error) {
	grant, err := r.Client.Reserve(ctx, node, apply)
	return grant, r.sent(ctx, node, err)
}

// SendRelease gives back to a node what it has granted.
func (r *Remote) SendRelease(ctx context.Context, node string, back bfia.ReleaseRequest) error {
	return r.sent(ctx, node, r.Client.Release(ctx, node, back))
}

// SendCapacityHint tells a scheduler that a job of its may find room here now. It is a hint, and tried once: the scheduler asks by
// itself after a while.
func (r *Remote) SendCapacityHint(ctx context.Context, node, jobID string) error {
	return r.sent(ctx, node, r.Client.CapacityHint(ctx, node, jobID))
}

// SendTaskStart starts a task at a node (part 2, 3.4). A peer may run a task that is started twice twice, so when an
// earlier try may have arrived, it is asked first whether it knows the task.
func (r *Remote) SendTaskStart(ctx context.Context, node string, ref bfia.TaskRef) error {
	if activity.GetInfo(ctx).Attempt > 1 {
		known, err := r.knows(ctx, node, ref.TaskID)
		if err != nil || known {
			return r.sent(ctx, node, err)
		}
	}
	return r.sent(ctx, node, r.Client.TaskStart(ctx, node, ref))
}

// knows asks whether a node has begun a task: a refusal of the question means that it has not.
func (r *Remote) knows(ctx context.Context, node, taskID string) (bool, error) {
	result, err := r.Client.TaskPoll(ctx, node, taskID, "")
	var sent *client.Error
	switch {
	case err == nil:
		return result.Status != bfia.TaskReady && result.Status != bfia.TaskPending, nil
	case errors.As(err, &sent) && sent.Outcome == client.Refused:
		return false, nil
	}
	return false, err
}

// SendStop stops a job, or a task and what follows it, at a node (part 2, 3.6).
func (r *Remote) SendStop(ctx context.Context, node string, ref bfia.JobRef) error {
	return r.sent(ctx, node, r.Client.Stop(ctx, node, ref))
}

// How often and how long a party's stopped tasks are looked at, before it is told of the stop again.
const (
	endEvery = 200 * time.Millisecond
	endLimit = 20 * time.Second
)

// SendStopAgain sends job/stop to a node that has taken it already, when tasks have ended there, or won't within a while.
func (r *Remote) SendStopAgain(ctx context.Context, node string, ref bfia.JobRef, tasks []string) error {
	limit := time.Now().Add(endLimit)
	for _, id := range tasks {
		for !r.ended(ctx, node, id) && time.Now().Before(limit) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(endEvery):
			}
		}
	}
	return r.SendStop(ctx, node, ref)
}

// ended asks whether a task goes on at a node. What the node does not know, or won't tell, does not.
func (r *Remote) ended(ctx context.Context, node, taskID string) bool {
	result, err := r.Client.TaskPoll(ctx, node, taskID, "")
	var sent *client.Error
	return err == nil && result.Status.Terminal() || errors.As(err, &sent) && sent.Outcome == client.Refused
}

// SendCallback reports a task's state to the scheduler (part 2, 3.9).
func (r *Remote) SendCallback(ctx context.Context, node string, report bfia.TaskReport) error {
	return r.sent(ctx, node, r.Client.TaskCallback(ctx, node, report))
}

// SendFateReport tells a FATE-Flow that speaks its own protocol the state of a part.
func (r *Remote) SendFateReport(ctx context.Context, node string, report fateflow.Report) error {
	return r.sent(ctx, node, fateflow.SendReport(ctx, r.Client, node, report))
}

// PollTask asks nodes for the state of a task (part 2, 3.8) until one of them tells its end, and returns those that have
// ended. A node that is out of reach for longer than the limit, or keeps refusing the question for as long, has failed.
func (r *Remote) PollTask(ctx context.Context, req PollRequest) ([]PollResult, error) {
	silent := map[string]time.Time{} // since when; another worker that takes over goes on counting
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &silent); err != nil {
			return nil, fmt.Errorf("reading what an earlier try has seen: %w", err)
		}
	}
	tick := time.NewTicker(req.Every)
	defer tick.Stop()
	for {
		var ended []PollResult
		for _, node := range req.Nodes {
			stop := beating(ctx, maps.Clone(silent)) // a slow party must not look like a dead worker
			result, err := r.Client.TaskPoll(ctx, node, req.TaskID, "")
			stop()
			if err != nil {
				if silent[node].IsZero() {
					silent[node] = time.Now().UTC()
					r.Logger.Warn("a party does not answer for a task", "job_id", req.JobID, "task_id", req.TaskID, "node_id", node, "error", err)
				} else if time.Since(silent[node]) > req.GiveUpAfter {
					ended = append(ended, PollResult{Node: node, State: bfia.TaskFailed, Failure: &bfia.Failure{Kind: bfia.FailedTimeout,
						NodeID: node, Message: fmt.Sprintf("no good answer for %s: %v", req.GiveUpAfter, err)}})
				}
				continue
			}
			delete(silent, node)
			if result.Status.Terminal() {
				ended = append(ended, PollResult{Node: node, State: result.Status, Failure: bfia.FailureOf(result.Status, result.Failure, result.Reason)})
			}
		}
		if len(ended) > 0 {
			return ended, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return nil, errors.New("the worker is shutting down; another one goes on asking")
		case <-tick.C:
		}
	}
}

// beating sends heartbeats with details, at once and as long as something takes, until it is stopped.
func beating(ctx context.Context, details any) (stop func()) {
	activity.RecordHeartbeat(ctx, details)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		beat := time.NewTicker(heartbeatEvery)
		defer beat.Stop()
		for {
			select {
			case <-end:
				return
			case <-beat.C:
				activity.RecordHeartbeat(ctx, details)
			}
		}
	}()
	return func() {
		close(end)
		<-ended
	}
}

// ReleaseSession ends a job's session in the party's own transport, with what the containers left unread (part 4, 3.2.4).
func (r *Remote) ReleaseSession(ctx context.Context, session string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Transport+"/v1/interconn/chan/release", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("x-ptp-session-id", session)
	req.Header.Set("x-ptp-target-node-id", r.Client.NodeID)
	req.Header.Set("x-ptp-final", "true") // the session is over, not only its messages
	resp, err := r.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("releasing the session at the transport: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("releasing the session at the transport: HTTP %d", resp.StatusCode)
	}
	return nil
}

// sent sorts what became of a command: a refusal is final, all else is worth another try.
func (r *Remote) sent(ctx context.Context, node string, err error) error {
	if err == nil {
		return nil
	}
	info := activity.GetInfo(ctx)
	r.Logger.Warn("command to a party failed", "activity", info.ActivityID, "attempt", info.Attempt, "node_id", node,
		"workflow_id", info.WorkflowExecution.ID, "error", err)
	var sent *client.Error
	if errors.As(err, &sent) && sent.Outcome == client.Refused {
		return temporal.NewNonRetryableApplicationError(sent.Text, FailureRefused, err, refusalCode(sent.Code))
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), FailureUnreachable, temporal.ApplicationErrorOptions{
		Cause: err, NextRetryDelay: PauseBefore(info.Attempt+1, rand.Float64())})
}

// The pauses between the tries of a command: each twice the one before.
const (
	pauseFirst = 200 * time.Millisecond
	pauseMost  = 10 * time.Second
)

// PauseBefore is the pause before a try, from the second on. Chance, from 0 to 1, spreads it by a quarter to either side: those
// that lost a partner together shall not come back to it together.
func PauseBefore(try int32, chance float64) time.Duration {
	pause := pauseMost
	if doublings := try - 2; doublings < 6 {
		pause = min(pauseMost, pauseFirst<<max(doublings, 0))
	}
	return time.Duration(float64(pause) * (0.75 + chance/2))
}

// refusalCode keeps a peer's code where it is one of ours, since then it tells our caller more.
func refusalCode(code bfia.Code) bfia.Code {
	switch code {
	case bfia.CodeBadRequest, bfia.CodeNotFound, bfia.CodeConflict, bfia.CodeTooLarge, bfia.CodeForbidden:
		return code
	}
	return bfia.CodeRefused
}

// refused makes an error final, with the code of the answer that it becomes.
func refused(err error) error {
	return temporal.NewNonRetryableApplicationError(bfia.MessageOf(err), FailureRefused, err, bfia.CodeOf(err))
}
