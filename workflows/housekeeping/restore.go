package housekeeping

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

const (
	// marksPerRun bounds the marks of one run, and with it the run's history.
	marksPerRun = 200
	// noticeLimit bounds the retries of the notice of a restore to a partner.
	noticeLimit = 7 * 24 * time.Hour
	// lateMessages is how long a partner's containers may send messages after it was notified that their job
	// has ended.
	lateMessages = 2 * time.Minute
	// changeSessions is the version of notices that release the jobs' sessions.
	changeSessions = "release-sessions"
)

// Mark counts up the party's restore mark, for ever: it continues as a new run from time to time. The mark is
// the last one that the run before has counted. Temporal gets each number first, with the workflow's memo.
func Mark(ctx workflow.Context, mark workflows.RestoreMark) error {
	now := workflow.GetSignalChannel(ctx, workflows.SignalMarkNow)
	for range marksPerRun {
		mark.Number++
		if err := workflow.UpsertMemo(ctx, map[string]any{workflows.RestoreMarkMemo: mark}); err != nil {
			return err
		}
		for {
			err := execute(ctx, act.AdvanceRestoreMark,
				housekeeping.AdvanceRestoreMarkInput{Number: mark.Number}).Get(ctx, nil)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			workflow.SetCurrentDetails(ctx, "Failed to count up the restore mark: "+workflows.Reason(err))
			pause(ctx, now)
		}
		workflow.SetCurrentDetails(ctx, "")
		pause(ctx, now)
	}

	return workflow.NewContinueAsNewError(ctx, workflows.RestoreMarkType, mark)
}

// pause waits for the next mark, or until someone asks for one.
func pause(ctx workflow.Context, now workflow.ReceiveChannel) {
	timer, cancel := workflow.WithCancel(ctx)
	defer cancel()
	workflow.NewSelector(ctx).
		AddFuture(workflow.NewTimer(timer, workflows.RestoreMarkEvery), func(workflow.Future) {}).
		AddReceive(now, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
		}).Select(ctx)
	for now.ReceiveAsync(nil) { // several processes may have asked
	}
}

// Notify notifies partners of the jobs that a restore has ended: the participants of those that this party
// schedules, and the schedulers of the others. Then it releases the jobs' sessions at the party's transport,
// since the workflows that would have done so were terminated: not before the partners' containers have
// stopped, because they would begin sessions again, or fail for a reason that is not the job's.
func Notify(ctx workflow.Context, in workflows.RestoreNoticeInput) error {
	var notices []workflow.Future
	for _, job := range in.Jobs {
		stop := bfia.JobRef{JobID: job.JobID, Failure: job.Failure}
		for _, node := range job.Nodes {
			notices = append(notices, workflows.SendCommand(ctx, "stop "+job.JobID+" at "+node, noticeLimit,
				schedulerAct.SendStop, scheduler.SendStopInput{Node: node, Job: stop}))
		}
		if job.Scheduler != "" {
			notices = append(notices, workflows.SendCommand(ctx, "stop "+job.JobID+" at its scheduler "+
				job.Scheduler, noticeLimit, participantAct.SendStopAll,
				participant.SendStopAllInput{Node: job.Scheduler, Job: stop}))
		}
	}
	for _, notice := range notices {
		_ = notice.Get(ctx, nil) // a refusal: the partner has ended the job, or does not know it
	}
	if workflow.GetVersion(ctx, changeSessions, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	if err := workflow.Sleep(ctx, lateMessages); err != nil {
		return err
	}
	releaseSessions(ctx, in.Jobs)

	return nil
}

// releaseSessions releases the sessions of jobs, and those derived from them, at the party's transports. One
// that is down releases them itself when it is back.
func releaseSessions(ctx workflow.Context, jobs []workflows.RestoredJob) {
	var released []workflow.Future
	for i, job := range jobs {
		if slices.ContainsFunc(jobs[:i], func(j workflows.RestoredJob) bool { return j.JobID == job.JobID }) {
			continue // the party schedules the job and takes part in it
		}
		in := participant.ReleaseSessionInput{Session: bfia.SessionID(job.JobID), Uncounted: true}
		released = append(released, workflows.SendCommand(ctx, "release the session of "+job.JobID,
			noticeLimit, participantAct.ReleaseSession, in))
	}
	for _, f := range released {
		_ = f.Get(ctx, nil)
	}
}
