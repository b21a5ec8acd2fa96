package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/bfia"
)

// recordLimit is how long a record is tried. The engine would give up after a single try's limit, unless told so.
const recordLimit = 24 * time.Hour

// record writes to the party's database: short, retried until the database answers.
func record(ctx workflow.Context, name, summary string, args ...any) workflow.Future {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToCloseTimeout: recordLimit,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
			NonRetryableErrorTypes: []string{activities.FailureRefused},
		},
		Summary: summary,
	})
	return workflow.ExecuteLocalActivity(ctx, name, args...)
}

// command sends something to a party, until it is taken or refused, or limit is over. Single tries are short: a
// partner that hangs is asked again. Cancelled it is tried no more, and is over when the last try is.
func command(ctx workflow.Context, id string, limit time.Duration, name string, args ...any) workflow.Future {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID:             id,
		TaskQueue:              activities.ControlQueue,
		Summary:                id,
		StartToCloseTimeout:    30 * time.Second,
		ScheduleToCloseTimeout: limit,
		WaitForCancellation:    true,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 10 * time.Second,
			NonRetryableErrorTypes: []string{activities.FailureRefused},
		},
	})
	return workflow.ExecuteActivity(ctx, name, args...)
}

// swiftTry bounds the first try of a swift command, for which the workflow's step waits.
const swiftTry = 2 * time.Second

// swift is a command whose first try is a part of the workflow's step, since that costs the engine a tenth of what an activity
// does, and no hop. One that is not taken then goes on as command does, tries and limit, and shows in the engine's UI. It may reach
// its party twice, as all that is tried again, but without the activity that tries knowing of it.
func sendLocalFirst(ctx workflow.Context, id string, limit time.Duration, name string, args ...any) workflow.Future {
	done, set := workflow.NewFuture(ctx)
	own, _ := workflow.NewDisconnectedContext(ctx) // a try that has begun is waited for, as is that of a command
	first := workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(own, workflow.LocalActivityOptions{
		StartToCloseTimeout: swiftTry, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}, Summary: id,
	}), name, args...)
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := first.Get(ctx, nil)
		if _, _, refused := RefusalCode(err); err == nil || refused || ctx.Err() != nil {
			set.Chain(first)
			return
		}
		set.Chain(command(ctx, id, limit, name, args...))
	})
	return done
}

// operator is by whom a workflow is stopped that is cancelled in the engine, with its command line or in its UI.
const operator = "an operator of the engine"

// detached gives a context that outlives the workflow's cancellation, so that even then parties are told and
// containers are stopped; cancelled, if there is one, learns of it.
func disconnected(ctx workflow.Context, cancelled func()) workflow.Context {
	own, _ := workflow.NewDisconnectedContext(ctx)
	if cancelled != nil {
		workflow.Go(own, func(own workflow.Context) {
			ctx.Done().Receive(own, nil)
			cancelled()
		})
	}
	return own
}

// answered gives back err when all callers of updates have their answer: a workflow that ends before would tell them
// of its end instead.
func awaitHandlers(ctx workflow.Context, err error) error {
	_ = workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	return err
}

// awaitFor waits for a condition, but not longer than a limit, and tells whether it holds. Unlike the SDK's own it leaves no
// timer behind, which would cost a step when it is over.
func awaitFor(ctx workflow.Context, limit time.Duration, condition func() bool) bool {
	if condition() {
		return true
	}
	timerCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	timer := workflow.NewTimer(timerCtx, limit)
	_ = workflow.Await(ctx, func() bool { return condition() || timer.IsReady() })
	return condition()
}

// reasonOf is what people should read of an activity's error: its own words, without the engine's wrapping.
func reasonOf(err error) string {
	var timeout *temporal.TimeoutError
	var app *temporal.ApplicationError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &app):
		return app.Message()
	case errors.As(err, &timeout):
		return "gave up: no answer within the limit"
	}
	return err.Error()
}

// failureOf explains an error of a command to a party; doing is what the party did not do.
func failureOf(node, doing string, err error) *bfia.Failure {
	f := &bfia.Failure{Kind: bfia.FailedTimeout, NodeID: node, Message: doing + ": " + reasonOf(err)}
	if _, _, refused := RefusalCode(err); refused {
		f.Kind = bfia.FailedRefused
	}
	return f
}

// stoppedBy explains an end that someone wanted.
func stoppedBy(who string) *bfia.Failure { return &bfia.Failure{Kind: bfia.FailedStopped, By: who} }

// hear lets all other coroutines take what has come for them, signals that came before an update, say.
func drainSignals(ctx workflow.Context) {
	heard := false
	workflow.Go(ctx, func(workflow.Context) { heard = true }) // it is the last in the line
	_ = workflow.Await(ctx, func() bool { return heard })
}

const (
	// heartbeat is how long an activity that watches something may be silent before another worker takes it over.
	heartbeat = 10 * time.Second
	// runLimit bounds one container, and one task's polling.
	runLimit = 30 * 24 * time.Hour
)

// refusal is an error for the caller of the create update, with the code that its HTTP answer has.
func refusal(code bfia.Code, message string) error {
	return temporal.NewNonRetryableApplicationError(message, activities.FailureRefused, nil, code)
}

// RefusalCode reads what [refusal] wrote.
func RefusalCode(err error) (bfia.Code, string, bool) {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != activities.FailureRefused {
		return 0, "", false
	}
	code := bfia.CodeRefused
	_ = app.Details(&code) // without details it is a plain refusal
	return code, app.Message(), true
}

func attributes(plan *bfia.Plan, node string, roles []string, state string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(
		AttributeJobID.ValueSet(plan.JobID), AttributeFlowID.ValueSet(plan.FlowID),
		AttributeNodeID.ValueSet(node), AttributeRoles.ValueSet(roles), AttributeState.ValueSet(state))
}

// JobAttributes are the search attributes with which [Job] starts.
func JobAttributes(in JobInput) temporal.SearchAttributes {
	return attributes(&in.Plan, in.Node, []string{"scheduler"}, string(bfia.JobPending))
}

// PartyJobAttributes are the search attributes with which [PartyJob] starts.
func PartyJobAttributes(in PartyJobInput) temporal.SearchAttributes {
	return attributes(&in.Plan, in.Node, in.Roles, string(bfia.JobReady))
}
