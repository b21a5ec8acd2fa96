package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/bfia"
)

// PollTaskInput names a task and the parties that have not reported its end.
type PollTaskInput struct {
	JobID  string        `json:"job_id"`
	TaskID string        `json:"task_id"`
	Nodes  []string      `json:"nodes"`
	Every  time.Duration `json:"every"`
	// GiveUpAfter is how long a party may be unreachable before its part counts as failed.
	GiveUpAfter time.Duration `json:"give_up_after"`
}

// PollTaskResult is the end of a task at a party.
type PollTaskResult struct {
	Node    string         `json:"node"`
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
}

// PollTask polls parties for the state of a task (BFIA part 2, 3.8) until one of them reports its end, and
// returns those that do. A party that is unreachable for longer than the limit, or refuses the question for
// as long, has failed.
func (a *Activities) PollTask(ctx context.Context, in PollTaskInput) ([]PollTaskResult, error) {
	// survives in the heartbeat's details: another worker keeps counting
	silentSince := map[string]time.Time{}
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &silentSince); err != nil {
			return nil, fmt.Errorf("failed to read the heartbeat of an earlier attempt: %w", err)
		}
	}

	noted := notedWaits{}
	tick := time.NewTicker(in.Every)
	defer tick.Stop()
	for {
		var ended []PollTaskResult
		for _, node := range in.Nodes {
			if result, ok := a.pollParty(ctx, in, node, silentSince, noted); ok {
				ended = append(ended, result)
			}
		}
		if len(ended) > 0 {
			if a.OnPollEnd != nil {
				a.OnPollEnd()
			}
			return ended, nil
		}

		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return nil, errors.New("the worker is shutting down; another worker continues to poll")
		case <-tick.C:
		}
	}
}

// pollParty asks one party for the state of a task, and reports whether the task has ended there.
func (a *Activities) pollParty(ctx context.Context, in PollTaskInput, node string,
	silentSince map[string]time.Time, noted notedWaits,
) (PollTaskResult, bool) {
	stop := keepHeartbeat(ctx, maps.Clone(silentSince)) // a slow party must not look like a dead worker
	result, err := a.Client.TaskPoll(ctx, node, in.TaskID, "")
	stop()

	if err == nil {
		if !silentSince[node].IsZero() {
			a.recordContact(ctx, node)
		}
		delete(silentSince, node)
		a.recordWait(ctx, in, node, noted, result.Waiting.Truncate())
		failure := bfia.FailureOf(result.Status, result.Failure, result.Reason)

		return PollTaskResult{Node: node, State: result.Status, Failure: failure}, result.Status.Terminal()
	}
	if silentSince[node].IsZero() {
		until := time.Now().UTC().Add(in.GiveUpAfter)
		a.recordWait(ctx, in, node, noted, &bfia.Waiting{Kind: bfia.WaitsForPartner, NodeID: node,
			Until: &until,
			Since: time.Now().UTC(), Message: fmt.Sprintf("%s does not say what its part does: %v", node,
				err)})
		silentSince[node] = time.Now().UTC()
		a.Logger.Warn("failed to poll a party for a task", "job_id", in.JobID, "task_id", in.TaskID,
			"node_id", node, "error", err)

		return PollTaskResult{}, false
	}
	if n := noted[node]; n != nil { // the database may take it now
		a.recordWait(ctx, in, node, noted, n.waiting)
	}
	if time.Since(silentSince[node]) <= in.GiveUpAfter {
		return PollTaskResult{}, false
	}

	return PollTaskResult{Node: node, State: bfia.TaskFailed, Failure: &bfia.Failure{Kind: bfia.FailedTimeout,
		NodeID: node, Message: fmt.Sprintf("no good answer for %s: %v", in.GiveUpAfter, err)}}, true
}

// recordContact records that a party answers again, for those who were notified of its silence.
func (a *Activities) recordContact(ctx context.Context, node string) {
	if err := a.Store.PutContact(ctx, node, time.Now()); err != nil {
		a.Logger.Warn("failed to record when a partner was last in contact", "partner", node, "error", err)
	}
}

// notedWaits are what a task waits for, as far as a poll knows it, by party.
type notedWaits map[string]*notedWait

type notedWait struct {
	waiting  *bfia.Waiting
	since    time.Time // by this worker's clock; the party's may differ
	recorded bool      // this party's rows have it
	shown    bool      // the job's workflow shows it
}

// recordWait writes what a task waits for at a party, if the rows do not have it. If the database does not
// take it, the workflow shows it all the same, and the next poll writes it.
func (a *Activities) recordWait(ctx context.Context, in PollTaskInput, node string, noted notedWaits,
	w *bfia.Waiting,
) {
	defer a.showWait(ctx, in, node, noted)
	before, known := noted[node]
	if known && before.recorded && before.waiting.Same(w) {
		return
	}
	now := &notedWait{waiting: w, since: time.Now(), recorded: true}
	if known {
		now.shown = before.shown
		if before.waiting != nil && w != nil && before.waiting.Kind == w.Kind {
			now.since = before.since
		}
	}
	if node != a.Node { // this party reads its own rows
		if err := a.Store.SetSchedulePartWaiting(ctx, in.TaskID, node, w); err != nil {
			a.Logger.Warn("failed to record what a task waits for", "job_id", in.JobID, "task_id", in.TaskID,
				"node_id", node, "error", err)
			now.recorded = false
		}
	}
	noted[node] = now
}

// showWait notifies the job's workflow of the beginning and the end of a wait that lasts.
func (a *Activities) showWait(ctx context.Context, in PollTaskInput, node string, noted notedWaits) {
	n := noted[node]
	if n == nil || a.OnWait == nil {
		return
	}
	lasts := n.waiting != nil && time.Since(n.since) >= activities.ShowWaitAfter
	if lasts == n.shown {
		return
	}
	wait := activities.PartWait{TaskID: in.TaskID, NodeID: node}
	if lasts {
		wait.Waiting = n.waiting
	}
	if err := a.OnWait(ctx, in.JobID, wait); err != nil {
		a.Logger.Warn("failed to notify the workflow of what a task waits for", "job_id", in.JobID, "task_id",
			in.TaskID, "node_id", node, "error", err)

		return
	}
	n.shown = lasts
}

// keepHeartbeat sends heartbeats with details, at once and then at intervals, until it is stopped.
func keepHeartbeat(ctx context.Context, details any) (stop func()) {
	activity.RecordHeartbeat(ctx, details)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		beat := time.NewTicker(activities.HeartbeatInterval)
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
