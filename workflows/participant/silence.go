package participant

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

const (
	// firstAsk is the silence of the scheduler after which a job asks it whether the job still runs. It
	// doubles up to maxAsk, and after quickAsks up to maxLateAsk, so that weeks of silence fit in a history.
	firstAsk   = time.Minute
	maxAsk     = 10 * time.Minute
	maxLateAsk = time.Hour
	quickAsks  = 144
	// askLimit bounds the tries of one question. The next one follows anyway.
	askLimit = 30 * time.Second
)

// silence is what a job knows of a scheduler from which it gets no commands.
type silence struct {
	heard      int           // counts the commands and answers of the scheduler
	asks       int           // counts the questions
	ask        time.Duration // the silence before the next one
	asking     bool          // a question is under way
	unanswered bool          // the last question
}

// schedulerWait is the key of the wait for a scheduler that does not answer.
const schedulerWait = "scheduler"

// watchScheduler asks a silent scheduler whether the job still runs, and ends the job if it does not: the
// scheduler's job/stop may have been lost on its way. A FATE-Flow that speaks its own protocol can't be
// asked.
func (j *job) watchScheduler(ctx workflow.Context) {
	if j.FateFlow {
		return
	}

	over := func() bool { return j.stoppedBy != "" }
	for {
		heard := j.silence.heard
		if workflows.AwaitFor(ctx, j.silence.ask, over) {
			return
		}
		if j.silence.heard != heard {
			j.silence.ask = firstAsk

			continue
		}

		id := fmt.Sprintf("ask %s for the job (%d)", j.Scheduler, j.silence.asks)
		j.silence.asking = true
		f := workflows.SendLocalFirst(workflows.WithoutWaits(ctx), id, askLimit, act.AskScheduler,
			participant.AskSchedulerInput{Node: j.Scheduler, JobID: j.Plan.JobID})
		_ = workflow.Await(ctx, func() bool { return f.IsReady() || over() })
		j.silence.asking = false
		if over() {
			return
		}
		var answer participant.SchedulerAnswer
		err := f.Get(ctx, &answer)
		j.takeAnswer(ctx, answer, err)
		if j.silence.asks++; j.silence.asks > quickAsks {
			j.silence.ask = min(2*j.silence.ask, maxLateAsk)
		} else {
			j.silence.ask = min(2*j.silence.ask, maxAsk)
		}
	}
}

// takeAnswer ends the job if its scheduler has.
func (j *job) takeAnswer(ctx workflow.Context, answer participant.SchedulerAnswer, err error) {
	if err != nil {
		if !j.silence.unanswered {
			j.silence.unanswered = true
			j.logger.Warn("failed to ask the scheduler whether the job still runs", "scheduler", j.Scheduler,
				"reason", workflows.Reason(err))
		}
		if j.stoppedBy == "" {
			j.waits.Begin(ctx, schedulerWait, bfia.Waiting{Kind: bfia.WaitsForPartner, NodeID: j.Scheduler,
				Message: fmt.Sprintf("has no answer from its scheduler %s: %s", j.Scheduler,
					workflows.Reason(err))})
		}

		return
	}
	j.silence.unanswered = false
	j.waits.End(schedulerWait)

	switch {
	case answer.Unknown:
		j.logger.Warn("the scheduler does not know the job; it ends here", "scheduler", j.Scheduler)
		j.stop(workflows.Stop{By: j.Scheduler, Undo: true, Failure: &bfia.Failure{Kind: bfia.FailedStopped,
			By: j.Scheduler, Message: "its scheduler, " + j.Scheduler + ", does not know the job any more"}})
	case answer.State.Terminal():
		j.logger.Warn("the scheduler has ended the job; its job/stop did not arrive", "scheduler",
			j.Scheduler)
		j.stop(workflows.Stop{By: j.Scheduler, Failure: answer.Failure, Reason: answer.Failure.Text(),
			Rejected: answer.State == bfia.JobRejected})
	}
}
