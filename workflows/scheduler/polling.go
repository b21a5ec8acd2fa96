package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// pollDelay returns how long a task may be without a callback before its parties are polled. In a job of
// sync_type poll, the delay is short if a party has not promised callbacks in its answer to the creation.
// Every Hutong party promises them.
func (j *job) pollDelay(t *task) time.Duration {
	if j.Plan.SyncType == bfia.SyncPoll {
		for k, p := range t.plan.Parts {
			if !t.parts[k].Terminal() && !j.accepted[p.NodeID].Callbacks {
				return min(j.Settings.PollEvery, j.Settings.PollAfter)
			}
		}
	}

	return j.Settings.PollAfter
}

// watchSilence wakes the tasks that have been silent for too long. It uses one timer for all of them, since
// most tasks end before theirs would fire.
func (j *job) watchSilence(ctx workflow.Context) {
	for {
		// A task whose time has passed wakes on its own condition.
		if err := workflow.Await(ctx, func() bool {
			return len(j.silentAt) > 0 && j.nextSilence().After(workflow.Now(ctx))
		}); err != nil {
			return
		}

		wake := j.nextSilence()
		timerCtx, cancel := workflow.WithCancel(ctx)
		timer := workflow.NewTimer(timerCtx, wake.Sub(workflow.Now(ctx)))
		err := workflow.Await(ctx, func() bool {
			return timer.IsReady() || len(j.silentAt) > 0 && j.nextSilence().Before(wake)
		})
		cancel()
		if err != nil {
			return
		}
	}
}

// nextSilence returns when the first of the running tasks counts as silent.
func (j *job) nextSilence() (next time.Time) {
	for _, at := range j.silentAt {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}

	return next
}

// poll polls the parties that have not reported the task's end, until one of them does, or another report
// comes.
func (j *job) poll(ctx workflow.Context, t *task, over func() bool) {
	var nodes []string
	for k, p := range t.plan.Parts {
		if !t.parts[k].Terminal() && !slices.Contains(nodes, p.NodeID) {
			nodes = append(nodes, p.NodeID)
		}
	}

	t.polled = true
	defer func() {
		t.polled = false
		if len(t.waits) > 0 {
			clear(t.waits) // nobody follows them now
			j.describe(ctx)
		}
	}()
	pollCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	f := workflow.ExecuteActivity(workflow.WithActivityOptions(pollCtx, workflow.ActivityOptions{
		ActivityID:          fmt.Sprintf("poll %s (%d)", t.plan.Name, t.reports),
		TaskQueue:           activities.ControlQueue,
		Summary:             "poll " + strings.Join(nodes, ", ") + " for " + t.plan.Name,
		StartToCloseTimeout: workflows.RunLimit, HeartbeatTimeout: workflows.HeartbeatTimeout,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: j.Settings.PollEvery, BackoffCoefficient: 1},
	}), act.PollTask, scheduler.PollTaskInput{JobID: j.Plan.JobID, TaskID: t.id, Nodes: nodes,
		Every: j.Settings.PollEvery, GiveUpAfter: j.Settings.GiveUpAfter})

	reports := t.reports
	_ = workflow.Await(ctx, func() bool { return f.IsReady() || over() || t.reports != reports })
	if !f.IsReady() {
		return
	}
	var ended []scheduler.PollTaskResult
	if err := f.Get(ctx, &ended); err != nil {
		j.logger.Warn("failed to poll a task", "task_id", t.id, "reason", workflows.Reason(err))

		return
	}
	for _, r := range ended {
		j.reportNode(t, r.Node, "", r.State, r.Failure)
	}
}
