package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// Operator is the author of a stop if a workflow is cancelled with Temporal's command line or in its UI.
const Operator = "an operator of Temporal"

// Disconnect returns a context that outlives the workflow's cancellation, so that even then parties are
// notified and containers are stopped. It calls cancelled, if not nil, when the workflow is cancelled.
func Disconnect(ctx workflow.Context, cancelled func()) workflow.Context {
	own, _ := workflow.NewDisconnectedContext(ctx)
	if cancelled != nil {
		workflow.Go(own, func(own workflow.Context) {
			ctx.Done().Receive(own, nil)
			cancelled()
		})
	}

	return own
}

// AwaitHandlers returns err once all update handlers have returned. If the workflow ended before, their
// callers would get its end as their answer.
func AwaitHandlers(ctx workflow.Context, err error) error {
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })

	return err
}

// AwaitFor waits for a condition until the limit is over, and reports whether it holds. Unlike
// workflow.AwaitWithTimeout it cancels its timer, which would otherwise cost a workflow task.
func AwaitFor(ctx workflow.Context, limit time.Duration, condition func() bool) bool {
	if condition() {
		return true
	}

	timerCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	timer := workflow.NewTimer(timerCtx, limit)
	_ = workflow.Await(ctx, func() bool { return condition() || timer.IsReady() })

	return condition()
}

// DrainSignals lets all other coroutines receive the signals that came before an update.
func DrainSignals(ctx workflow.Context) {
	drained := false
	workflow.Go(ctx, func(workflow.Context) { drained = true }) // the last of all coroutines to run
	_ = workflow.Await(ctx, func() bool { return drained })
}

const (
	// FirstPoll is the first polling interval of a queued job. It doubles up to maxPoll, and after quickPolls
	// up to maxLatePoll, so that weeks of waiting fit in a history. All are below admission.RequestTTL: the
	// job keeps its position.
	FirstPoll   = 10 * time.Second
	maxPoll     = time.Minute
	maxLatePoll = 10 * time.Minute
	quickPolls  = 120
)

// NextPoll returns the interval after one of length wait, before the given poll.
func NextPoll(wait time.Duration, poll int) time.Duration {
	if poll > quickPolls {
		return min(2*wait, maxLatePoll)
	}

	return min(2*wait, maxPoll)
}
