package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/bfia"
)

// recordLimit bounds the retries of a record. Without it, the local activity would be tried once only.
const recordLimit = 24 * time.Hour

// Record runs an activity that writes to the party's database, as a local activity. It is short, and is
// retried until the database answers.
func Record(ctx workflow.Context, summary string, activity, in any) workflow.Future {
	ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    10 * time.Second,
		ScheduleToCloseTimeout: recordLimit,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: 100 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second,
			NonRetryableErrorTypes: []string{activities.FailureRefused},
		},
		Summary: summary,
	})

	return workflow.ExecuteLocalActivity(ctx, activity, in)
}

// SendCommand runs an activity that sends a command to a party, until the party accepts or refuses it or the
// limit is over. Each try is short, so that a party that hangs is tried again. A cancelled command ends with
// the try that is under way.
func SendCommand(ctx workflow.Context, id string, limit time.Duration, activity, in any) workflow.Future {
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

	return workflow.ExecuteActivity(ctx, activity, in)
}

// localTryLimit bounds the first try of SendLocalFirst, for which the workflow task waits.
const localTryLimit = 2 * time.Second

// SendLocalFirst tries a command once as a local activity, which saves a round trip to Temporal, and falls
// back to [SendCommand]. The command may reach its party twice, as with any retry. The activity does not know
// whether the local activity has sent it.
func SendLocalFirst(ctx workflow.Context, id string, limit time.Duration, activity, in any) workflow.Future {
	done, set := workflow.NewFuture(ctx)
	// A cancelled command still waits for the try that is under way.
	own, _ := workflow.NewDisconnectedContext(ctx)
	own = workflow.WithLocalActivityOptions(own, workflow.LocalActivityOptions{
		StartToCloseTimeout: localTryLimit,
		RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
		Summary:             id,
	})
	first := workflow.ExecuteLocalActivity(own, activity, in)

	workflow.Go(ctx, func(ctx workflow.Context) {
		err := first.Get(ctx, nil)
		if _, _, refused := RefusalCode(err); err == nil || refused || ctx.Err() != nil {
			set.Chain(first)

			return
		}
		set.Chain(SendCommand(ctx, id, limit, activity, in))
	})

	return done
}

const (
	// HeartbeatTimeout is the silence after which another worker takes over a long activity.
	HeartbeatTimeout = 10 * time.Second
	// RunLimit bounds a container, and the polling of a task.
	RunLimit = 30 * 24 * time.Hour
)

// Refuse returns an error for the caller of an update, with the code of the HTTP answer that it becomes.
func Refuse(code bfia.Code, message string) error {
	return temporal.NewNonRetryableApplicationError(message, activities.FailureRefused, nil, code)
}

// RefusalCode reads the code and the message of a refusal, and reports whether err is one.
func RefusalCode(err error) (bfia.Code, string, bool) {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != activities.FailureRefused {
		return 0, "", false
	}
	code := bfia.CodeRefused
	_ = app.Details(&code) // a refusal without details has the plain code

	return code, app.Message(), true
}

// Reason returns an activity's error as people should read it: without what Temporal wraps it in.
func Reason(err error) string {
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

// CommandFailure explains why a command to a party failed. Undone names what the party did not do, such as
// "did not start".
func CommandFailure(node, undone string, err error) *bfia.Failure {
	f := &bfia.Failure{Kind: bfia.FailedTimeout, NodeID: node, Message: undone + ": " + Reason(err)}
	if _, _, refused := RefusalCode(err); refused {
		f.Kind = bfia.FailedRefused
	}

	return f
}
